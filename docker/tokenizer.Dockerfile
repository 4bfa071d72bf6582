# The speech tokenizer service. docs/images.md says how to build it.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# cpu or cuda
ARG VARIANT=cpu

FROM ${PYTHON_IMAGE} AS sources
# pip reads these from the environment. The second one is for an index with torch's builds for this variant.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
# What is installed does not depend on our code: a change of that installs nothing anew.
COPY pyproject.toml README.md ./
COPY requirements/constraints.txt requirements/
RUN python -m venv --without-pip /opt/venv

FROM sources AS installed-cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --constraint requirements/constraints.txt ".[models]"

FROM installed-cpu AS installed-cuda
RUN ["/opt/venv/bin/python", "-c", "import torch; assert torch.version.cuda, 'torch is a build for CPUs; see docs/images.md'"]

FROM ${PYTHON_IMAGE} AS runtime-cpu
RUN groupadd --gid 10001 trunkline \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trunkline
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/trunkline \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TRUNKLINE_LOG_FORMAT=json \
    TRUNKLINE_METRICS_LISTEN=0.0.0.0:9464 \
    TRUNKLINE_TOKENIZER_LISTEN=0.0.0.0:50051 \
    TRUNKLINE_TOKENIZER_WEIGHTS=/weights

FROM runtime-cpu AS runtime-cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRUNKLINE_TOKENIZER_DEVICE=cuda

FROM installed-${VARIANT} AS installed

FROM runtime-${VARIANT} AS service
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Trunkline speech tokenizer" \
      org.opencontainers.image.description="Turns speech into speech tokens" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=installed /opt/venv /opt/venv
WORKDIR /opt/trunkline
COPY trunkline trunkline
COPY services/__init__.py services/
COPY services/common services/common
COPY services/tokenizer services/tokenizer
RUN python -m compileall -q trunkline services
USER 10001:10001
# gRPC, metrics
EXPOSE 50051 9464
HEALTHCHECK --start-period=300s --interval=15s --timeout=10s --retries=3 \
    CMD ["python", "-m", "services.common.probe", "--address", "127.0.0.1:50051", "--timeout", "5"]
ENTRYPOINT ["python", "-m", "services.tokenizer"]

# `--target nano`: with the small model of this repository
FROM service AS nano
COPY weights/nano/tokenizer weights/nano/tokenizer
ENV TRUNKLINE_TOKENIZER_WEIGHTS=/opt/trunkline/weights/nano/tokenizer

# What is built unless a target is named: weights are mounted at /weights.
FROM service AS mounted
