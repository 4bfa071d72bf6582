# The SIP edge: Debian's Kamailio, the version that the tests call through. Its configuration is mounted: docs/edge.md.
ARG DEBIAN_IMAGE=debian:bookworm-slim
FROM ${DEBIAN_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Trunkline SIP edge" \
      org.opencontainers.image.description="Kamailio that spreads phone calls over Trunkline's agents" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates kamailio kamailio-tls-modules \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 trunkline \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin trunkline
USER 10001:10001
# SIP, SIP over TLS, metrics; 5070 is for the agents
EXPOSE 5060/udp 5060 5061 5070/udp 9464
HEALTHCHECK --start-period=30s --interval=15s --timeout=5s --retries=3 \
    CMD ["kamcmd", "-s", "unix:/run/kamailio/kamailio_ctl", "core.uptime"]
ENTRYPOINT ["kamailio", "-DD", "-E", "-m", "64", "-M", "8", "-w", "/run/kamailio", "-Y", "/run/kamailio", "-f", "/etc/kamailio/kamailio.cfg"]
