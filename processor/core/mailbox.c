#include "processor/core/mailbox.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "processor/core/err.h"

int st_mailbox_open(struct st_mailbox *m)
{
    m->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (m->fd < 0)
        return ST_ERR_SYSTEM;
    ST_ASSERT(pthread_mutex_init(&m->lock, NULL) == 0);
    STAILQ_INIT(&m->list);
    m->closed = false;
    return ST_OK;
}

static void mailbox_signal(struct st_mailbox *m)
{
    uint64_t one = 1;

    /* Nobody reads the counter; that takes 2^64 wake-ups to fill it. */
    while (write(m->fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

void st_mailbox_post(struct st_mailbox *m, struct st_mail *mail, st_mail_fn *deliver)
{
    bool was_empty;

    mail->deliver = deliver;
    pthread_mutex_lock(&m->lock);
    ST_ASSERT(!m->closed);
    was_empty = STAILQ_EMPTY(&m->list);
    STAILQ_INSERT_TAIL(&m->list, mail, link);
    pthread_mutex_unlock(&m->lock);
    /* Not under the lock: the owner that wakes would run into it. */
    if (was_empty)
        mailbox_signal(m);
}

void st_mailbox_post_list(struct st_mailbox *m, struct st_mail_list *list)
{
    bool was_empty;

    if (STAILQ_EMPTY(list))
        return;
    pthread_mutex_lock(&m->lock);
    ST_ASSERT(!m->closed);
    was_empty = STAILQ_EMPTY(&m->list);
    STAILQ_CONCAT(&m->list, list);
    pthread_mutex_unlock(&m->lock);
    if (was_empty)
        mailbox_signal(m);
}

void st_mailbox_take(struct st_mailbox *m, struct st_mail_list *out)
{
    STAILQ_INIT(out);
    pthread_mutex_lock(&m->lock);
    STAILQ_CONCAT(out, &m->list);
    pthread_mutex_unlock(&m->lock);
}

void st_mailbox_close(struct st_mailbox *m)
{
    pthread_mutex_lock(&m->lock);
    m->closed = true;
    pthread_mutex_unlock(&m->lock);
    close(m->fd);
    m->fd = -1;
    /* The mutex holds no resources; undestroyed it lets a late post reach its assert. */
}
