/* The only way between threads: a list under a mutex and an eventfd, written when the list turns
 * from empty to non-empty; the owner takes the whole list at once.
 *
 * The owner watches the eventfd edge-triggered (EPOLLET): each write wakes it, so the counter is
 * never read and a wake-up costs one system call less. */
#ifndef PROCESSOR_CORE_MAILBOX_H
#define PROCESSOR_CORE_MAILBOX_H

#include <pthread.h>
#include <sys/queue.h>

#include "processor/core/base.h"

struct st_mail;
struct st_loop;

/* Runs on the receiving loop; the mail is out of the mailbox and may be freed or posted again. */
typedef void st_mail_fn(struct st_loop *loop, struct st_mail *mail);

/* Part of the object that travels; in one mailbox at a time. */
struct st_mail {
    STAILQ_ENTRY(st_mail) link;
    st_mail_fn *deliver;
};

STAILQ_HEAD(st_mail_list, st_mail);

struct st_mailbox {
    pthread_mutex_t lock;
    struct st_mail_list list;
    int fd;      /* eventfd: an edge when mail came into the empty mailbox */
    bool closed; /* under lock */
};

/* 0 or ST_ERR_SYSTEM. */
int st_mailbox_open(struct st_mailbox *m) ST_MUST_CHECK;

/* Any thread. Mails are delivered in the order in which they were posted. The mailbox must not be
 * closed: a loop ends after everybody who may post to it. */
void st_mailbox_post(struct st_mailbox *m, struct st_mail *mail, st_mail_fn *deliver);

/* Moves a list whose `deliver` are set in one go; it is empty afterwards. Any thread. */
void st_mailbox_post_list(struct st_mailbox *m, struct st_mail_list *list);

/* Takes everything, which may be nothing; owner only. */
void st_mailbox_take(struct st_mailbox *m, struct st_mail_list *out);

/* Frees; mail that is left is forgotten, its owner must know it. */
void st_mailbox_close(struct st_mailbox *m);

#endif
