# MicroSandbox as an image: `docker compose up` serves on port 5555, `docker compose run --rm microsandbox` is a shell in a
# microVM. Everything is built here, the guest's kernel too; to take parts that are built already, name an image of them, laid
# out as `cargo dev install --root DIR` does it, in MICROSANDBOX_PARTS.
ARG GLOBAL_REGISTRY=""
ARG DEBIAN_VERSION="13.2-slim"
ARG MICROSANDBOX_PARTS="build"

FROM ${GLOBAL_REGISTRY}debian:${DEBIAN_VERSION} AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        build-essential ca-certificates rustup \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN rustup set profile minimal && rustup default stable && cargo dev install --root /out

FROM ${MICROSANDBOX_PARTS} AS parts

# What a sandbox is made of whose image nobody names: Debian, as it is here.
FROM ${GLOBAL_REGISTRY}debian:${DEBIAN_VERSION} AS default
RUN tar --create --one-file-system --exclude=./proc --exclude=./sys --exclude=./dev --exclude=./root.tar \
        --file=/root.tar --directory=/ .

FROM ${GLOBAL_REGISTRY}debian:${DEBIAN_VERSION}
RUN for program in pasta /usr/libexec/virtiofsd /usr/sbin/update-ca-certificates; do \
        command -v "$program" >/dev/null || missing=yes; \
    done; \
    if [ "${missing:-no}" = yes ]; then \
        apt-get update \
        && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
            ca-certificates passt tzdata virtiofsd \
        && rm -rf /var/lib/apt/lists/*; \
    fi
COPY --from=parts /out/ /
# Not below a volume, which is filled once only: sandboxes' images are taken over from here, and again when they have changed.
# Nor unpacked, which takes privileges that a build has not.
RUN --mount=type=bind,from=default,source=/root.tar,target=/root.tar \
    MICROSANDBOX_HOME=/usr/share/microsandbox msb import /root.tar microsandbox/default
# Those of Python and Node are asked for where Debian is, now and later.
ARG GLOBAL_REGISTRY=""
ENV MICROSANDBOX_REGISTRY="${GLOBAL_REGISTRY}"
ARG MICROSANDBOX_AUTO_PULL_IMAGES="true"
RUN if [ "$MICROSANDBOX_AUTO_PULL_IMAGES" = true ]; then \
        MICROSANDBOX_HOME=/usr/share/microsandbox msb pull --no-unpack microsandbox/python microsandbox/node; \
    fi
ARG MICROSANDBOX_VERSION="latest"
LABEL org.opencontainers.image.title="MicroSandbox" org.opencontainers.image.version="${MICROSANDBOX_VERSION}"
ENV MICROSANDBOX_IMAGE="microsandbox/default" MICROSANDBOX_SHIPPED="/usr/share/microsandbox" \
    MICROSANDBOX_WORKSPACE="/workspace" MICROSANDBOX_PUBLISH="0.0.0.0" \
    MICROSANDBOX_HOST="0.0.0.0" MICROSANDBOX_PORT="5555"
WORKDIR /workspace
VOLUME ["/root/.microsandbox/images", "/root/.microsandbox/namespaces", "/root/.microsandbox/volumes", \
    "/workspace", "/var/lib/msb-runtime"]
EXPOSE 5555
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["msb", "server", "health"]
ENTRYPOINT ["msb"]
CMD ["enter"]
