# wtal on a CPU. Build and use:
#   docker build -t wtal .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" wtal demo
# The torch wheel is that of PyTorch's CPU index: without CUDA it is a tenth of the size.
FROM python:3.11-slim-bookworm

# PyAV and OpenCV bring their own libraries. Caches go to /tmp, where every user may write.
ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1 WTAL_WORKSPACE=/data/workspace HOME=/tmp

WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt MANIFEST.in ./
COPY wtal ./wtal
RUN pip install -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch \
    && pip install -c constraints.txt '.[report,appearance]' \
    && wtal --version

WORKDIR /data
ENTRYPOINT ["wtal"]
CMD ["--help"]
