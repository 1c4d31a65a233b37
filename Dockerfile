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

# The charts of the console's page (docs/decisions/0017-charts.md).
FROM maven:3.9-eclipse-temurin-17 AS charts
COPY ops/stack/charts.xml /src/pom.xml
RUN mvn -q -B --strict-checksums -f /src/pom.xml dependency:copy-dependencies -DoutputDirectory=/jars \
    && mkdir /cache && mv /jars "/cache/charts-$(sed -n 's/.*<charts.version>\(.*\)<.*/\1/p' /src/pom.xml)"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/headrace --create-home headrace
COPY --from=build /opt/headrace /opt/headrace
COPY --from=charts /cache /opt/headrace/cache
ENV PATH=/opt/headrace/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HEADRACE_HOST=0.0.0.0 \
    HEADRACE_ADMIN_HOST=0.0.0.0 \
    HEADRACE_DATA_DIR=/var/lib/headrace \
    HEADRACE_CACHE_DIR=/opt/headrace/cache
WORKDIR /var/lib/headrace
USER headrace
ENTRYPOINT ["headrace"]
CMD ["--help"]
