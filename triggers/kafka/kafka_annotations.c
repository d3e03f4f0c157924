/* The function's annotations that Nuclio's trigger reads (`nuclio.io/kafka-...`), and what they set
 * here. */
#include "triggers/kafka/kafka_int.h"

#define NAMED(suffix) "nuclio.io/kafka-" suffix
#define ATTRIBUTE(suffix, attribute)                              \
    {                                                             \
        .name = NAMED(suffix), .option = "attributes." attribute, \
    }

const char kafka_annotation_prefix[] = NAMED("");

const struct st_annotation kafka_annotations[] = {
    ATTRIBUTE("session-timeout", "sessionTimeout"),
    ATTRIBUTE("heartbeat-interval", "heartbeatInterval"),
    ATTRIBUTE("max-processing-time", "maxProcessingTime"),
    ATTRIBUTE("rebalance-timeout", "rebalanceTimeout"),
    ATTRIBUTE("balance-strategy", "balanceStrategy"),
    ATTRIBUTE("initial-offset", "initialOffset"),
    ATTRIBUTE("max-wait-time", "maxWaitTime"),
    ATTRIBUTE("max-wait-handler-during-rebalance", "maxWaitHandlerDuringRebalance"),
    ATTRIBUTE("worker-allocation-mode", "workerAllocationMode"),
    ATTRIBUTE("fetch-min", "fetchMin"),
    ATTRIBUTE("fetch-default", "fetchDefault"),
    ATTRIBUTE("fetch-max", "fetchMax"),
    ATTRIBUTE("secret-path", "secretPath"),
    ATTRIBUTE("access-key", "accessKey"),
    ATTRIBUTE("access-cert", "accessCertificate"),
    ATTRIBUTE("ca-cert", "caCert"),
    ATTRIBUTE("tls-enabled", "tls.enable"),
    ATTRIBUTE("tls-insecure-skip-verify", "tls.insecureSkipVerify"),
    ATTRIBUTE("tls-minimum-version", "tls.minimumVersion"),
    ATTRIBUTE("sasl-enabled", "sasl.enable"),
    ATTRIBUTE("sasl-handshake", "sasl.handshake"),
    ATTRIBUTE("sasl-mechanism", "sasl.mechanism"),
    ATTRIBUTE("sasl-user", "sasl.user"),
    ATTRIBUTE("sasl-password", "sasl.password"),
    ATTRIBUTE("sasl-oauth-client-id", "sasl.oauth.clientID"),
    ATTRIBUTE("sasl-oauth-client-secret", "sasl.oauth.clientSecret"),
    ATTRIBUTE("sasl-oauth-token-url", "sasl.oauth.tokenURL"),
    ATTRIBUTE("sasl-oauth-scopes", "sasl.oauth.scopes"),
    {.name = NAMED("termination-wait-time"), .option = "workerTerminationTimeout"},
    {.name = NAMED("explicit-ack-mode"), .option = "explicitAckMode", .wins = true},
    {.name = "nuclio.io/wait-explicit-ack-during-rebalance-timeout",
     .option = "waitExplicitAckDuringRebalanceTimeout",
     .wins = true},
    /* As the attributes of these names: accepted, without effect. */
    {.name = NAMED("rebalance-retry-max")},
    {.name = NAMED("rebalance-retry-backoff")},
    {.name = NAMED("retry-backoff")},
    {.name = NAMED("channel-buffer-size")},
    {.name = NAMED("window-size")},
    {.name = NAMED("log-level")},
    {.name = NAMED("version")},
    {.name = NULL},
};
