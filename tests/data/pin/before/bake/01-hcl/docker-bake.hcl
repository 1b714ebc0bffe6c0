# docker buildx bake
variable "TAG" { default = "latest" }
variable "GO_IMAGE" {
  default = "golang:1.22" // resolver: ignore
}
variable "NODE" { default = "node:22" }
group "default" { targets = ["app", "tool"] }

/* target "none" { contexts = { a = "docker-image://not:this" } } */
target "app" {
  inherits   = ["_common"]
  dockerfile = "Dockerfile"
  contexts = {
    base = "docker-image://alpine:3.20", source = "./src"
    "other" : "docker-image://ghcr.io/org/other:v1",
    stage = "target:tool"
    made = "docker-image://${NODE}"
  }
  args = {
    BASE_IMAGE = "debian:bookworm"
    VERSION    = TAG == "latest" ? "1.2" : "${TAG}"
    RUNTIME    = TAG != "" ? "python:3.12" : "python:3.11"
  }
  tags       = ["ghcr.io/org/app:${TAG}", "ghcr.io/org/app:v1"]
  cache-from = ["ghcr.io/org/cache:main"]
  platforms  = [for arch in ["amd64", "arm64"] : "linux/${arch}"]
}

target "tool" {
  dockerfile-inline = <<-EOT
    FROM alpine:3.20 AS base
    COPY --from=busybox:1.36 /bin/sh /sh
  EOT
  labels = { "quoted \"key\"" = "a $${not} one" }
}
