# An Airflow image with airflow-entrypoint as its ENTRYPOINT.
#
#   docker build -t my-airflow .
#   docker build -t my-airflow --build-arg AIRFLOW_IMAGE=apache/airflow:2.11.2 .
#   docker build -t my-airflow --build-arg AIRFLOW_IMAGE=puckel/docker-airflow:1.10.9 --build-arg AIRFLOW_UID=1000 .
ARG RUST_IMAGE=rust:1-slim-bookworm
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2

FROM ${RUST_IMAGE} AS build
# The executable, where it is compiled already: its path in the context. Nothing is compiled then, and RUST_IMAGE may be any
# image with a shell. `.dockerignore` lets target/release/airflow-entrypoint through, which is what `make build` leaves.
ARG EXECUTABLE=
USER root
WORKDIR /src
# The dependencies first, with a program that does nothing: a change of the sources does not fetch and compile them again.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN [ -n "${EXECUTABLE}" ] || { mkdir src && echo 'fn main() {}' >src/main.rs && cargo build --release --locked; }
COPY docker/templates docker/templates
COPY src src
COPY ${EXECUTABLE:-Cargo.toml} /given
# cargo goes by times, and the sources may be older than the program that did nothing. The folder of the result is named
# after the machine's target. An executable for another kind of machine fails here, not at the first start.
RUN if [ -n "${EXECUTABLE}" ]; then \
        cp /given /airflow-entrypoint && chmod 0755 /airflow-entrypoint && /airflow-entrypoint --version; \
    else \
        touch src/main.rs && cargo build --release --locked && cp target/*/release/airflow-entrypoint /; \
    fi

FROM ${AIRFLOW_IMAGE}
# The user of that image; 50000 is that of the official one.
ARG AIRFLOW_UID=50000
USER root
COPY --from=build /airflow-entrypoint /usr/local/bin/airflow-entrypoint
# A named volume that is mounted here for the first time takes over owner and mode: any member of group 0 may write, and
# nobody else may look. There is no VOLUME on purpose: an anonymous volume would look as if it kept the keys, and each
# container would have one of its own.
#
# Compose files call the entrypoints that it replaces by their paths. As `airflow` it stands in front of the real one for
# `docker exec`, which has the empty variables of the container that a start takes away.
RUN install -d -o ${AIRFLOW_UID} -g 0 -m 0770 /keys \
    && ln -sf /usr/local/bin/airflow-entrypoint /entrypoint \
    && ln -sf /usr/local/bin/airflow-entrypoint /entrypoint.sh \
    && mkdir -p /usr/local/lib/airflow-entrypoint \
    && ln -sf /usr/local/bin/airflow-entrypoint /usr/local/lib/airflow-entrypoint/airflow
ENV PATH=/usr/local/lib/airflow-entrypoint:${PATH}
USER ${AIRFLOW_UID}
ENTRYPOINT ["/usr/local/bin/airflow-entrypoint"]
CMD ["webserver"]
