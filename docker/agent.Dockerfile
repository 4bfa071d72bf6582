# The agent: calls over SIP, WebRTC and carriers' websockets. It has no torch. docs/images.md says how to build it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS installed
# pip reads these from the environment.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
# What is installed does not depend on our code: a change of that installs nothing anew.
COPY pyproject.toml README.md ./
COPY requirements/constraints.txt requirements/
RUN python -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --constraint requirements/constraints.txt ".[agent,kubernetes]"

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Trunkline agent" \
      org.opencontainers.image.description="Carries calls over SIP, WebRTC and carriers' websockets" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN groupadd --gid 10001 trunkline \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trunkline
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/trunkline \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    NUMBA_CACHE_DIR=/tmp/numba \
    TRUNKLINE_LOG_FORMAT=json \
    TRUNKLINE_METRICS_LISTEN=0.0.0.0:9464 \
    TRUNKLINE_AGENT_SIP_LISTEN=0.0.0.0:5060 \
    TRUNKLINE_AGENT_HTTP_LISTEN=0.0.0.0:8080 \
    TRUNKLINE_AGENT_CALLS_LISTEN=0.0.0.0:50050
COPY --from=installed /opt/venv /opt/venv
WORKDIR /opt/trunkline
COPY trunkline trunkline
COPY services/__init__.py services/
COPY services/common services/common
COPY services/agent services/agent
COPY personas personas
RUN python -m compileall -q trunkline services
USER 10001:10001
# SIP of two workers, web page, Calls, metrics, media of phone calls
EXPOSE 5060/udp 5062/udp 8080 50050 9464 10000-10199/udp
HEALTHCHECK --start-period=60s --interval=15s --timeout=10s --retries=3 \
    CMD ["python", "-m", "services.common.probe", "--address", "127.0.0.1:50050", "--timeout", "5"]
ENTRYPOINT ["python", "-m", "services.agent"]
