# The agent's image. BuildKit and the classic builder both build it, for amd64 and arm64: `make image`, or
#
#   docker build -t beta9-worker .
#
#   BASE_IMAGE    Debian 12, by name; a release pins it by digest.
#   BUILD_IMAGE   image for installing the Python packages, if that needs more than the base has (such as a site's own
#                 CA certificate for pip). Only the installed packages are copied from it.
#   PIP_…         pip's own settings, for the build only.
ARG BASE_IMAGE=debian:bookworm-slim
ARG BUILD_IMAGE=${BASE_IMAGE}

# hadolint ignore=DL3006
FROM ${BUILD_IMAGE} AS build
LABEL beta9-worker.stage=build
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG PIP_DEFAULT_TIMEOUT
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The tools stay in this stage: the image contains neither pip nor setuptools.
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python3 -m venv /tools \
    && /tools/bin/pip install --require-hashes -r requirements/build.lock \
    && python3 -m venv --without-pip /usr/local/lib/beta9-worker \
    && /tools/bin/pip --python /usr/local/lib/beta9-worker install --no-compile --only-binary :all: \
        --require-hashes -r requirements/runtime.lock
COPY LICENSE README.md pyproject.toml ./
COPY agent agent
COPY cloud-init cloud-init
# Precompiled, because the root file system may be read-only; validated by hash, so that no timestamp is embedded.
RUN /tools/bin/pip wheel --no-deps --no-index --no-build-isolation -w /wheels . \
    && /tools/bin/pip --python /usr/local/lib/beta9-worker install --no-compile --no-deps --no-index \
        --find-links /wheels beta9-worker \
    && PYTHONHASHSEED=0 /usr/local/lib/beta9-worker/bin/python -m compileall -q -j 1 --invalidation-mode unchecked-hash \
        /usr/local/lib/beta9-worker/lib
# What `install` runs on the host, with fixed modes whatever those of the checkout are.
COPY bootstrap /host/bootstrap
COPY image/beta9-worker.sh /host/beta9-worker.sh
RUN cp -r cloud-init /host/cloud-init && chmod -R u=rwX,go=rX /host && chmod 0755 /host/beta9-worker.sh

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
# Sets the date of the last password change that useradd records, which must not vary between builds.
ARG SOURCE_DATE_EPOCH=86400
# iproute2, nftables and iptables make the way from ssh to the machine's ports. openssh-server is for `demo`, which creates its own host keys; libnss-extrausers lets the entry point name any uid.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates iproute2 iptables libnss-extrausers nftables openssh-client openssh-server openssl python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig /var/log/* \
        /var/lib/dpkg/*-old /etc/ssh/ssh_host_* \
    && sed -i 's/^passwd:.*/passwd: files extrausers/' /etc/nsswitch.conf \
    && mkdir -p /var/lib/extrausers /run/sshd \
    && ln -s /tmp/beta9-worker.passwd /var/lib/extrausers/passwd \
    && useradd --uid 1000 --user-group --create-home --shell /usr/sbin/nologin beta9 \
    && rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- \
    && chmod 0700 /home/beta9 \
    && install -d -m 0700 /etc/beta9-worker /var/lib/beta9-worker
COPY --from=build /usr/local/lib/beta9-worker /usr/local/lib/beta9-worker
COPY --from=build /host/bootstrap /opt/beta9-worker/bootstrap
COPY --from=build /host/cloud-init /opt/beta9-worker/cloud-init
COPY --from=build /host/beta9-worker.sh /usr/local/bin/beta9-worker
# NVML is the only part of NVIDIA's driver that is needed.
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/local/lib/beta9-worker/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 NVIDIA_DRIVER_CAPABILITIES=utility
# Last, so that a new commit does not invalidate the layers above.
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="beta9-worker" \
      org.opencontainers.image.description="Turns any GPU machine into a worker of your Beta9 cluster." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
WORKDIR /
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["beta9-worker", "health"]
ENTRYPOINT ["tini", "--", "/usr/local/bin/beta9-worker"]
CMD ["run"]
