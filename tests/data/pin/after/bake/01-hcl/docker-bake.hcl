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
    base = "docker-image://alpine:3.20@sha256:75be9c490b21b793193f47be0daf1e1ba283c3a002c8e84091e2c871cc49f219", source = "./src"
    "other" : "docker-image://ghcr.io/org/other:v1@sha256:3f46cd613d1fc38c3cf3a13e61eb69f5426a3b2d886c953023cc0567fc911e2e",
    stage = "target:tool"
    made = "docker-image://${NODE}"
  }
  args = {
    BASE_IMAGE = "debian:bookworm@sha256:fc862dd5e686a306f1ecf1162dec15c49909b0aea52a22511aa48ceb0eb6b231"
    VERSION    = TAG == "latest" ? "1.2" : "${TAG}"
    RUNTIME    = TAG != "" ? "python:3.12" : "python:3.11"
  }
  tags       = ["ghcr.io/org/app:${TAG}", "ghcr.io/org/app:v1"]
  cache-from = ["ghcr.io/org/cache:main"]
  platforms  = [for arch in ["amd64", "arm64"] : "linux/${arch}"]
}

target "tool" {
  dockerfile-inline = <<-EOT
    FROM alpine:3.20@sha256:75be9c490b21b793193f47be0daf1e1ba283c3a002c8e84091e2c871cc49f219 AS base
    COPY --from=busybox:1.36@sha256:d55432289a2f69dad7e00346d00e8d4df4d0053a44dffb3f8cf463f6e3fb4b04 /bin/sh /sh
  EOT
  labels = { "quoted \"key\"" = "a $${not} one" }
}
