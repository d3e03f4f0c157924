/* Tokens of OAuth 2.0 for SASL's OAUTHBEARER, by client credentials (RFC 6749 section 4.4): fetched
 * when librdkafka asks for one, which it does at 80 % of the last one's life. An endpoint that is
 * away is asked again and again, with growing delays, and said to be. */
#ifndef TRIGGERS_KAFKA_KAFKA_OAUTH_H
#define TRIGGERS_KAFKA_KAFKA_OAUTH_H

#include "processor/core/loop.h"
#include "triggers/kafka/kafka_client.h"

struct st_kafka_oauth;

/* For one client of librdkafka's. options and name outlive it. *out is NULL where the options ask
 * for another mechanism. On the loop, as all that follows. 0 or a negative code with *err filled.
 */
int st_kafka_oauth_open(struct st_kafka_oauth **out, struct st_loop *loop,
                        const struct st_kafka_client_options *options, const char *name,
                        struct st_error *err) ST_MUST_CHECK;

/* In librdkafka's refresh callback: it gets a token, in a later pass. NULL: nothing happens. */
void st_kafka_oauth_refresh(struct st_kafka_oauth *oauth, rd_kafka_t *rk);

/* A token was asked for, and the last answer was one. */
bool st_kafka_oauth_has_token(const struct st_kafka_oauth *oauth);

/* Before the client's end. May be NULL. */
void st_kafka_oauth_close(struct st_kafka_oauth *oauth);

#endif
