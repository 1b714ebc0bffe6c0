FROM rust:1.82@sha256:bedd06f8d992f1e6bd1d10378a1f9f88ccd55431ad54475fc246b73cc976c0d3 AS b
RUN cargo build
FROM scratch
COPY --from=b /x /x
