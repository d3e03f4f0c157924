/* Defers every event; a thread of its own brings the answers. The body says how:
 *   "early"      resolve() before handle() returns
 *   "MS"         resolve() MS milliseconds later
 *   "twice MS"   and then again
 *   "error MS"   with a failure
 *   "said MS"    with what reply() said before
 *   "held"       resolve() when told
 *   "never"      not at all
 * Query "gone" answers how many resolve() returned STATOR_GONE so far, "held" how many are held,
 * "tell" resolves those and answers how many. */
#include <pthread.h>
#include <stator/handler.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef FLAGS
#define FLAGS STATOR_NONBLOCKING
#endif

struct job {
    struct job *next;
    stator_token token;
    struct timespec at;
    int twice, error, said;
    char text[64];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct job *jobs, *held;
static const struct stator_host_v1 *host_functions;
static pthread_t thread;
static int users, gone;

static int before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

static void resolve(const struct job *job)
{
    struct stator_reply reply = {.size = sizeof reply};
    int i;

    reply.status = job->error ? 502 : 201;
    reply.body = job->text;
    reply.body_len = strlen(job->text);
    for (i = 0; i <= job->twice; i++)
        if (host_functions->resolve(job->token, job->error ? STATOR_ERROR : STATOR_OK,
                                    job->said ? NULL : &reply) == STATOR_GONE)
            __atomic_add_fetch(&gone, 1, __ATOMIC_SEQ_CST);
}

static void *run(void *arg)
{
    struct job *job;

    (void)arg;
    pthread_mutex_lock(&lock);
    while (users > 0 || jobs != NULL) {
        struct timespec now;

        if (jobs == NULL) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &now);
        if (before(&now, &jobs->at)) {
            now = jobs->at;
            pthread_cond_timedwait(&changed, &lock, &now);
            continue;
        }
        job = jobs;
        jobs = job->next;
        pthread_mutex_unlock(&lock);
        resolve(job);
        free(job);
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void add(struct job *job, long ms)
{
    struct job **at = &jobs;

    clock_gettime(CLOCK_REALTIME, &job->at);
    job->at.tv_sec += ms / 1000;
    job->at.tv_nsec += ms % 1000 * 1000000;
    if (job->at.tv_nsec >= 1000000000) {
        job->at.tv_sec++;
        job->at.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    while (*at != NULL && before(&(*at)->at, &job->at))
        at = &(*at)->next;
    job->next = *at;
    *at = job;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void hold(struct job *job)
{
    pthread_mutex_lock(&lock);
    job->next = held;
    held = job;
    pthread_mutex_unlock(&lock);
}

static int count_held(void)
{
    const struct job *job;
    int n = 0;

    pthread_mutex_lock(&lock);
    for (job = held; job != NULL; job = job->next)
        n++;
    pthread_mutex_unlock(&lock);
    return n;
}

static int tell(void)
{
    struct job *job, *next;
    int n = 0;

    pthread_mutex_lock(&lock);
    job = held;
    held = NULL;
    pthread_mutex_unlock(&lock);
    for (; job != NULL; job = next, n++) {
        next = job->next;
        add(job, 0);
    }
    return n;
}

static int answer(const struct stator_host_v1 *host, stator_event *ev, int n)
{
    char text[16];

    snprintf(text, sizeof text, "%d", n);
    return host->reply_text(ev, 200, text);
}

static int init(const struct stator_host_v1 *host, const struct stator_worker_v1 *worker,
                void **user)
{
    int rc = 0;

    (void)worker;
    (void)user;
    pthread_mutex_lock(&lock);
    host_functions = host;
    if (users++ == 0)
        rc = pthread_create(&thread, NULL, run, NULL);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int defer(const struct stator_host_v1 *host, stator_event *ev, const char *text)
{
    struct job *job = calloc(1, sizeof *job);
    const char *number;

    if (job == NULL)
        return STATOR_ERROR;
    job->token = host->defer(ev);
    if (job->token == 0) {
        free(job);
        host->fail(ev, 503, "no token");
        return STATOR_ERROR;
    }
    snprintf(job->text, sizeof job->text, "%s", text);
    job->twice = strncmp(text, "twice", 5) == 0;
    job->error = strncmp(text, "error", 5) == 0;
    job->said = strncmp(text, "said", 4) == 0;
    if (job->said)
        host->reply_text(ev, 203, "said before");
    number = strchr(text, ' ');
    if (strcmp(text, "never") == 0) {
        free(job);
    } else if (strcmp(text, "early") == 0) {
        resolve(job);
        free(job);
    } else if (strcmp(text, "held") == 0) {
        hold(job);
    } else {
        add(job, strtol(number != NULL ? number : text, NULL, 10));
    }
    return STATOR_DEFER;
}

static int handle(const struct stator_host_v1 *host, void *user, stator_event *ev)
{
    struct stator_str body = host->body(ev), query = host->query(ev);
    char text[64];

    (void)user;
    if (query.len == 4 && memcmp(query.ptr, "gone", 4) == 0)
        return answer(host, ev, __atomic_load_n(&gone, __ATOMIC_SEQ_CST));
    if (query.len == 4 && memcmp(query.ptr, "held", 4) == 0)
        return answer(host, ev, count_held());
    if (query.len == 4 && memcmp(query.ptr, "tell", 4) == 0)
        return answer(host, ev, tell());
    if (body.len >= sizeof text)
        body.len = sizeof text - 1;
    memcpy(text, body.ptr != NULL ? body.ptr : "", body.len);
    text[body.len] = '\0';
    return defer(host, ev, text);
}

static void fini(const struct stator_host_v1 *host, void *user)
{
    int last;

    (void)host;
    (void)user;
    pthread_mutex_lock(&lock);
    last = --users == 0;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    if (last)
        pthread_join(thread, NULL);
}

STATOR_EXPORT const struct stator_handler_v1 stator_handler_v1 = {
    .abi = STATOR_ABI,
    .size = sizeof stator_handler_v1,
    .name = "defer",
    .flags = FLAGS,
    .init = init,
    .handle = handle,
    .fini = fini,
};
