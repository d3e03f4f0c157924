/* /live and /ready. */
#include <stdio.h>

#include "processor/admin/admin_int.h"
#include "processor/core/log.h"
#include "processor/pool.h"
#include "processor/processor.h"

enum { LIVE_WAIT_S = 2 };

/* What is wrong, by the names that Nuclio gives its checks; with ?full=1 what is right as well.
 * NULL: nothing is wrong. */
static void answer_checks(struct admin_exchange *ax, const char *live_fault, bool with_ready,
                          const char *ready_fault)
{
    bool ok = live_fault == NULL && ready_fault == NULL;
    char body[1024] = "{";
    size_t n = 1;

    if (live_fault != NULL || ax->full)
        n += (size_t)snprintf(body + n, sizeof body - n, "\"processor_liveness\": \"%s\"",
                              live_fault != NULL ? live_fault : "OK");
    if (ready_fault != NULL || (ax->full && with_ready))
        n += (size_t)snprintf(body + n, sizeof body - n, "%s\"processor_readiness\": \"%s\"",
                              n > 1 ? ", " : "", ready_fault != NULL ? ready_fault : "OK");
    n += (size_t)snprintf(body + n, sizeof body - n, "}");
    st_admin_answer(ax, ok ? 200 : 503, ST_SLICE("application/json; charset=utf-8"),
                    (struct st_slice){body, n});
}

static void waiter_answer(struct admin_exchange *ax, const char *fault)
{
    struct st_admin *a = ax->admin;

    TAILQ_REMOVE(&a->live_waiters, ax, link);
    ax->waits = false;
    st_loop_timer_cancel(&a->p->main_loop, &ax->timer);
    answer_checks(ax, fault, false, NULL);
}

static const char *pools_fault(struct st_admin *a)
{
    for (unsigned i = 0; i < a->p->pool_count; i++)
        if (!st_pool_is_live(a->p->pools[i]))
            return "more workers are stuck than may be replaced";
    return NULL;
}

static void sign_back(struct st_loop *loop, struct st_mail *mail)
{
    struct admin_sign *s = ST_CONTAINER_OF(mail, struct admin_sign, mail);
    struct st_admin *a = s->admin;
    struct admin_exchange *ax;

    (void)loop;
    s->awaited = false;
    for (unsigned i = 0; i < a->p->loop_count; i++)
        if (a->signs[i].awaited)
            return;
    while ((ax = TAILQ_FIRST(&a->live_waiters)) != NULL)
        waiter_answer(ax, pools_fault(a));
}

static void sign_on_loop(struct st_loop *loop, struct st_mail *mail)
{
    struct admin_sign *s = ST_CONTAINER_OF(mail, struct admin_sign, mail);

    (void)loop;
    st_loop_post(&s->admin->p->main_loop, mail, sign_back);
}

static void live_timeout(struct st_timer *t)
{
    struct admin_exchange *ax = ST_CONTAINER_OF(t, struct admin_exchange, timer);
    struct st_admin *a = ax->admin;

    for (unsigned i = 0; i < a->p->loop_count; i++)
        if (a->signs[i].awaited)
            ST_LOG(ST_LOG_ERROR, "processor.admin",
                   "A loop gives no sign of life: does a NONBLOCKING handler block it?",
                   ST_KV_UINT("loop", i), ST_KV_UINT("seconds", LIVE_WAIT_S));
    waiter_answer(ax, "a loop is blocked");
}

void st_admin_live(struct admin_exchange *ax)
{
    struct st_admin *a = ax->admin;

    ax->waits = true;
    TAILQ_INSERT_TAIL(&a->live_waiters, ax, link);
    st_timer_init(&ax->timer, live_timeout);
    st_loop_timer_arm(&a->p->main_loop, &ax->timer, LIVE_WAIT_S * ST_SEC);
    for (unsigned i = 0; i < a->p->loop_count; i++) {
        struct admin_sign *s = &a->signs[i];

        if (!s->awaited) {
            s->awaited = true;
            st_loop_post(s->loop, &s->mail, sign_on_loop);
        }
    }
}

void st_admin_live_gone(struct admin_exchange *ax)
{
    if (!ax->waits)
        return;
    TAILQ_REMOVE(&ax->admin->live_waiters, ax, link);
    st_loop_timer_cancel(&ax->admin->p->main_loop, &ax->timer);
}

void st_admin_ready(struct admin_exchange *ax)
{
    char reason[256];
    bool ok = st_processor_is_ready(ax->admin->p, reason, sizeof reason);

    /* Whether it lives is for /live to find out: that takes time. */
    answer_checks(ax, NULL, true, ok ? NULL : reason);
}
