# All commands of esmm_spark on a CPU, as the user esmm, in /opt/esmm_spark with its .venv first in PATH.
#
#   docker build -t esmm_spark .
#   docker run --rm -v /data:/data esmm_spark spark-submit jobs/preprocess.py --config /data/my.yaml
#
# scripts/try_bare_debian.sh FOLDER dockerfile runs these steps in a Debian in a folder, where there is no Docker.

FROM debian:12-slim AS packages
# What README names, and ssh for ranks on several hosts. The compiler stays: setup asks for it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3.11-venv python3.11-dev build-essential git \
        openjdk-17-jre-headless openssh-client openssh-server ca-certificates procps \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --user-group esmm && install -d -o esmm -g esmm /opt/esmm_spark /opt/horovod
ENV ESMM_SPARK_CACHE=/opt/horovod

# Horovod, built against the pinned torch: built again only when one of these files changes.
FROM packages AS horovod
USER esmm
WORKDIR /opt/esmm_spark
COPY --chown=esmm:esmm requirements.lock setup.cfg ./
COPY --chown=esmm:esmm scripts/build_horovod.sh scripts/patch_horovod.sh scripts/
RUN python3.11 -m venv /tmp/horovod \
    && /tmp/horovod/bin/pip install --quiet -c requirements.lock \
        setuptools wheel numpy packaging pyyaml "$(sed -n 's/^ *\(torch==.*\)/\1/p' setup.cfg)" \
    && scripts/build_horovod.sh /tmp/horovod/bin/python \
    && rm -rf /tmp/horovod

FROM packages
USER esmm
WORKDIR /opt/esmm_spark
COPY --from=horovod --chown=esmm:esmm /opt/horovod /opt/horovod
COPY --chown=esmm:esmm . ./
RUN scripts/setup.sh && rm -rf /home/esmm/.cache/pip
# The image is fit when the tests are that need neither Spark nor ranks.
RUN make test-fast
ENV PATH=/opt/esmm_spark/.venv/bin:$PATH
CMD ["esmm-spark", "doctor"]
