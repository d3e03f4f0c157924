# Two images. The processor and nothing else, for native handlers, and with Python:
#   docker build -t stator .
#   docker build -t stator-python --target stator-python .
# A function's image adds its files:
#   FROM stator-python
#   COPY function.yaml /etc/nuclio/config/processor/processor.yaml
#   COPY handler.py /opt/nuclio/
#   RUN pip install --break-system-packages ...
ARG DEBIAN=debian:bookworm-slim

FROM ${DEBIAN} AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        cmake gcc libc6-dev libcurl4-openssl-dev libevent-dev libfyaml-dev libhwloc-dev \
        libjansson-dev libjemalloc-dev libprotobuf-c-dev librdkafka-dev libxxhash-dev ninja-build \
        node-llhttp pkg-config protobuf-c-compiler python3-dev uthash-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# COMMIT is for `stator version`: the build has no git.
ARG COMMIT=""
RUN cmake --preset release -B /build -DBUILD_TESTING=OFF -DST_COMMIT="${COMMIT:-unknown}" \
    && cmake --build /build \
    && DESTDIR=/out cmake --install /build --prefix /usr --strip

FROM ${DEBIAN} AS stator
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates libcurl4 libevent-core-2.1-7 libfyaml0 libhwloc15 libjansson4 libjemalloc2 \
        libprotobuf-c1 librdkafka1 libxxhash0 tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 stator \
    && useradd --uid 1000 --gid stator --no-create-home --home-dir /opt/nuclio \
        --shell /usr/sbin/nologin stator \
    && mkdir -p /opt/nuclio /etc/nuclio/config/processor /etc/nuclio/config/platform
COPY --from=build /out/usr/bin/stator /usr/bin/stator
COPY --from=build /out/usr/libexec/stator /usr/libexec/stator
COPY --from=build /out/usr/share/doc/stator /usr/share/doc/stator
WORKDIR /opt/nuclio
USER 1000:1000
EXPOSE 8080 8082 8090
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["stator", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["stator"]
CMD ["run"]

FROM stator AS stator-python
USER root
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/usr/lib/stator /usr/lib/stator
USER 1000:1000

# What is built without --target.
FROM stator
