/* What every client of Kafka is told, the trigger's consumer and the output's producer alike: where
 * the brokers are, how to reach them, and what goes to librdkafka as it stands. */
#ifndef TRIGGERS_KAFKA_KAFKA_CLIENT_H
#define TRIGGERS_KAFKA_KAFKA_CLIENT_H

#include "processor/config/option.h"
#include "processor/core/base.h"
#include "processor/core/err.h"
#include "triggers/kafka/kafka_library.h"

/* Names and meanings are those of Nuclio's trigger. Secrets are texts, or files (relative to
 * secret_path, or absolute) whose trimmed content they are. */
struct st_kafka_client_options {
    struct st_string_list brokers; /* host:port */
    struct {
        bool enable, handshake;
        char *mechanism, *user, *password;
        struct {
            char *client_id, *client_secret, *token_url;
            struct st_string_list scopes;
        } oauth;
    } sasl;
    struct {
        bool enable, skip_verify;
        char *minimum_version;
    } tls;
    char *ca_cert;                   /* PEM; turns TLS on */
    char *access_key, *access_cert;  /* PEM: the client's key and certificate */
    char *secret_path;               /* a folder, or "" */
    uint64_t statistics_ns;          /* between two sets of librdkafka's statistics; 0: none */
    struct st_string_map librdkafka; /* its own properties; they win */
};

extern const struct st_option st_kafka_sasl_table[], st_kafka_tls_table[];

/* Rows of an option table whose struct has these options at an offset. */
#define ST_KAFKA_CLIENT_AT(at, member) ((at) + offsetof(struct st_kafka_client_options, member))
#define ST_KAFKA_CLIENT_ROWS(at)                                                                 \
    {.name = "brokers",                                                                          \
     .type = ST_OPT_STRING_LIST,                                                                 \
     .offset = ST_KAFKA_CLIENT_AT(at, brokers),                                                  \
     .flags = ST_OPT_EXPAND,                                                                     \
     .help = "Brokers to begin with, each host:port.",                                           \
     .example = "[kafka:9092]"},                                                                 \
        {.name = "sasl",                                                                         \
         .type = ST_OPT_OBJECT,                                                                  \
         .offset = ST_KAFKA_CLIENT_AT(at, sasl),                                                 \
         .table = st_kafka_sasl_table,                                                           \
         .help = "Who the client is, by user and password.",                                     \
         .example = "{enable: true, mechanism: SCRAM-SHA-256, user: me, password: secret}"},     \
        {.name = "tls",                                                                          \
         .type = ST_OPT_OBJECT,                                                                  \
         .offset = ST_KAFKA_CLIENT_AT(at, tls),                                                  \
         .table = st_kafka_tls_table,                                                            \
         .help = "Encryption of the connections.",                                               \
         .example = "{enable: true}"},                                                           \
        {.name = "caCert",                                                                       \
         .type = ST_OPT_STRING,                                                                  \
         .offset = ST_KAFKA_CLIENT_AT(at, ca_cert),                                              \
         .value = "",                                                                            \
         .flags = ST_OPT_EXPAND | ST_OPT_SECRET,                                                 \
         .help = "Certificates of the authorities to trust, as PEM, or the file that has them; " \
                 "turns TLS on. Empty: the system's.",                                           \
         .example = "/etc/kafka/ca.pem"},                                                        \
        {.name = "accessKey",                                                                    \
         .type = ST_OPT_STRING,                                                                  \
         .offset = ST_KAFKA_CLIENT_AT(at, access_key),                                           \
         .value = "",                                                                            \
         .flags = ST_OPT_EXPAND | ST_OPT_SECRET,                                                 \
         .help = "The client's private key, as PEM, or its file; with accessCertificate.",       \
         .example = "/etc/kafka/key.pem"},                                                       \
        {.name = "accessCertificate",                                                            \
         .type = ST_OPT_STRING,                                                                  \
         .offset = ST_KAFKA_CLIENT_AT(at, access_cert),                                          \
         .value = "",                                                                            \
         .flags = ST_OPT_EXPAND | ST_OPT_SECRET,                                                 \
         .help = "The client's certificate, as PEM, or its file; with accessKey.",               \
         .example = "/etc/kafka/cert.pem"},                                                      \
        {.name = "secretPath",                                                                   \
         .type = ST_OPT_STRING,                                                                  \
         .offset = ST_KAFKA_CLIENT_AT(at, secret_path),                                          \
         .value = "",                                                                            \
         .flags = ST_OPT_EXPAND,                                                                 \
         .help = "Folder in which names of secret files are looked for.",                        \
         .example = "/etc/nuclio/secrets"},                                                      \
        {.name = "statisticsInterval",                                                           \
         .type = ST_OPT_DURATION,                                                                \
         .offset = ST_KAFKA_CLIENT_AT(at, statistics_ns),                                        \
         .value = "10s",                                                                         \
         .max = 86400e9,                                                                         \
         .flags = ST_OPT_EXPAND,                                                                 \
         .help = "How often the metrics stator_kafka_... are renewed; 0s: never.",               \
         .example = "10s"},                                                                      \
    {                                                                                            \
        .name = "librdkafka", .type = ST_OPT_STRING_MAP,                                         \
        .offset = ST_KAFKA_CLIENT_AT(at, librdkafka),                                            \
        .flags = ST_OPT_EXPAND | ST_OPT_SCALARS | ST_OPT_SECRET,                                 \
        .help = "Any property of librdkafka by its own name; it wins.",                          \
        .example = "{socket.keepalive.enable: true}"                                             \
    }

/* What the tables can't say, without looking at files: 0, or ST_ERR_INVALID with *err, and *member
 * is the faulty option ("sasl.mechanism"; static text). */
int st_kafka_client_check(const struct st_kafka_client_options *o, const char **member,
                          struct st_error *err) ST_MUST_CHECK;

/* The mechanism is OAUTHBEARER: the client needs a struct st_kafka_oauth. */
bool st_kafka_client_wants_tokens(const struct st_kafka_client_options *o);

/* A secret: the content of the file that value names, or value. The caller wipes and frees it. */
char *st_kafka_client_secret(const struct st_kafka_client_options *o, const char *value);

/* Loads librdkafka, and a configuration with all of it but the librdkafka properties; reads the
 * secret files. url, where no broker is named: NULL or "" for none. The client's log comes to ours
 * from its main queue, once st_kafka_client_started has been called. NULL with *err filled. The
 * caller owns it. */
rd_kafka_conf_t *st_kafka_client_conf(const struct st_kafka_client_options *o, const char *url,
                                      struct st_error *err);

/* Sets a property to a formatted text. 0 or ST_ERR_INVALID with *err. */
int st_kafka_conf_set(rd_kafka_conf_t *conf, struct st_error *err, const char *name,
                      const char *fmt, ...) ST_PRINTF(4, 5) ST_MUST_CHECK;

/* The librdkafka properties, last. `reserved` (NULL-terminated) names those that are not the user's
 * to set. */
int st_kafka_conf_apply(rd_kafka_conf_t *conf, const struct st_string_map *properties,
                        const char *const *reserved, struct st_error *err) ST_MUST_CHECK;

/* After rd_kafka_new: log lines wait in the main queue, for whoever polls. */
void st_kafka_client_started(rd_kafka_t *rk);

#endif
