# One image for gateway, worker, lander, console and init; the command chooses.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/headrace && /opt/headrace/bin/pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY ingest ingest
COPY processors processors
COPY console console
COPY ops ops
RUN /opt/headrace/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/headrace --create-home headrace
COPY --from=build /opt/headrace /opt/headrace
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADRACE_HOST=0.0.0.0 \
    HEADRACE_ADMIN_HOST=0.0.0.0 \
    HEADRACE_DATA_DIR=/var/lib/headrace
WORKDIR /var/lib/headrace
USER headrace
ENTRYPOINT ["headrace"]
CMD ["--help"]
