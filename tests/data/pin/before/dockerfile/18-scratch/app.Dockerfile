FROM rust:1.82 AS b
RUN cargo build
FROM scratch
COPY --from=b /x /x
