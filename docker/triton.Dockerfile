# NVIDIA's Triton Inference Server with the three models of model_repo. docs/images.md says how to build it.
# NVIDIA's image of server 2.51; put the name of the registry that you have it from in front.
ARG TRITON_IMAGE=tritonserver:24.10-py3
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
# cuda, or vllm: with the engine vllm too, or cpu
ARG VARIANT=cuda

FROM ${PYTHON_IMAGE} AS sources
# pip reads these from the environment. The second one is for an index with torch's builds for this variant.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
# What is installed does not depend on our code: a change of that installs nothing anew.
COPY pyproject.toml README.md ./
COPY requirements/constraints.txt requirements/triton.txt requirements/vllm-gpu.txt requirements/
RUN python -m venv --without-pip /opt/venv

FROM sources AS installed-cpu
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --constraint requirements/constraints.txt ".[models]"

FROM installed-cpu AS installed-cuda
RUN ["/opt/venv/bin/python", "-c", "import torch; assert torch.version.cuda, 'torch is a build for CPUs; see docs/images.md'"]

FROM sources AS installed-vllm
# vLLM pins a torch of its own.
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --requirement requirements/vllm-gpu.txt ".[models]"

# NVIDIA's image runs models on the Python of its distribution, 3.10. The program that runs them on 3.11 comes from
# NVIDIA's own package of the same server.
FROM sources AS stub
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --target /stub --requirement requirements/triton.txt

FROM ${TRITON_IMAGE} AS runtime-cpu
RUN groupadd --gid 10001 trunkline \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trunkline
ENV PATH=/opt/venv/bin:/opt/tritonserver/bin:/usr/local/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TRUNKLINE_LOG_FORMAT=json \
    TRUNKLINE_TOKENIZER_WEIGHTS=/weights/tokenizer \
    TRUNKLINE_LM_WEIGHTS=/weights/lm \
    TRUNKLINE_DECODER_WEIGHTS=/weights/decoder

FROM runtime-cpu AS runtime-cuda
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    TRUNKLINE_TOKENIZER_DEVICE=cuda \
    TRUNKLINE_LM_DEVICE=cuda \
    TRUNKLINE_DECODER_DEVICE=cuda

FROM runtime-cuda AS runtime-vllm
# vLLM compiles kernels' launchers when it starts.
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV TRUNKLINE_LM_ENGINE=vllm

FROM installed-${VARIANT} AS installed

FROM runtime-${VARIANT} AS service
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Trunkline models at Triton" \
      org.opencontainers.image.description="NVIDIA's Triton Inference Server with Trunkline's three models" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=installed /usr/local /usr/local
COPY --from=installed /opt/venv /opt/venv
COPY --from=stub /stub/pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub \
    /opt/tritonserver/backends/python/
WORKDIR /opt/trunkline
COPY trunkline trunkline
COPY services/__init__.py services/
COPY services/common services/common
COPY services/tokenizer services/tokenizer
COPY services/lm services/lm
COPY services/decoder services/decoder
COPY model_repo model_repo
# Stops a build whose parts do not fit: another server than the stub's, a library that Python or torch misses.
RUN ldconfig \
 && grep -qx 2.51.0 /opt/tritonserver/TRITON_VERSION \
 && python -c "import ctypes, ssl, sqlite3, torch; ctypes.CDLL('libpython3.11.so.1.0')" \
 && python -m compileall -q trunkline services model_repo
USER 10001:10001
# HTTP, gRPC, metrics
EXPOSE 8000 8001 8002
HEALTHCHECK --start-period=600s --interval=15s --timeout=10s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["tritonserver", "--model-repository=/opt/trunkline/model_repo"]

# `--target nano`: with the small models of this repository
FROM service AS nano
COPY weights/nano weights/nano
ENV TRUNKLINE_TOKENIZER_WEIGHTS=/opt/trunkline/weights/nano/tokenizer \
    TRUNKLINE_LM_WEIGHTS=/opt/trunkline/weights/nano/lm \
    TRUNKLINE_DECODER_WEIGHTS=/opt/trunkline/weights/nano/decoder

# What is built unless a target is named: weights are mounted below /weights.
FROM service AS mounted
