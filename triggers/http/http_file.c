/* A reply whose body is a file: the handler names it in a header of its reply.
 *
 * The file is read by pread() on the loop, in bounded pieces, and only as fast as the client takes
 * them: at most ST_CONN_HIGH bytes wait in the connection, the next are read when no more than
 * ST_CONN_LOW are left, in a later pass of the loop, so that a fast client can't keep the loop to
 * itself. A read of a local file is a copy from the page cache or a short wait for a disk; a file
 * on a network that hangs would block its loop meanwhile. */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processor/core/log.h"
#include "processor/core/loop.h"
#include "processor/processor.h"
#include "processor/runtime.h"
#include "triggers/http/http_int.h"

enum { PIECE = 64 * 1024 };

/* One a reply, while its file is sent; holds a reference of the event. */
struct http_file {
    struct http_event *he;
    int fd;
    off_t at;            /* bytes read */
    size_t pending;      /* of them, those that have not left */
    bool remove;         /* once it is sent, or given up */
    bool pumping;        /* bytes may leave while they are written */
    struct event resume; /* reads on in the next pass; active or idle, never waits */
    char path[];
};

/* The file is done with. */
static void file_close(struct http_file *f)
{
    event_del(&f->resume);
    close(f->fd);
    if (f->remove && unlink(f->path) != 0)
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.http", "Failed to remove a file after sending",
                       ST_KV_STR("path", f->path), ST_KV_STR("error", strerror(errno)));
    f->he->file = NULL;
    free(f);
}

static void file_end(struct http_file *f, bool well)
{
    struct http_event *he = f->he;

    file_close(f);
    http_stream_end(he, well);
    st_event_unref(&he->ev);
}

/* Reads one piece and passes it on: 1, 0 at the end of the file, -1 with errno. */
static int file_step(struct http_file *f)
{
    struct st_region *r = st_region_try_new(PIECE);
    ssize_t n;

    if (r == NULL) {
        errno = ENOMEM;
        return -1;
    }
    do
        n = pread(f->fd, r->base, PIECE, f->at);
    while (n < 0 && errno == EINTR);
    if (n <= 0) {
        st_region_unref(r);
        return n == 0 ? 0 : -1;
    }
    f->at += n;
    f->pending += (size_t)n;
    f->he->x.ops->stream_write(&f->he->x, (struct st_buf){r, 0, (size_t)n});
    return 1;
}

/* Fills what the connection may hold. The file may be gone afterwards. */
static void file_pump(struct http_file *f)
{
    int rc = 1;

    f->pumping = true;
    while (f->pending < ST_CONN_HIGH && (rc = file_step(f)) == 1)
        ;
    f->pumping = false;
    if (rc < 0)
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.http", "Failed to read a file that is being sent",
                       ST_KV_STR("path", f->path), ST_KV_STR("error", strerror(errno)));
    if (rc <= 0)
        file_end(f, rc == 0);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    file_pump(arg);
}

void http_file_sent(struct http_event *he, size_t n)
{
    struct http_file *f = he->file;

    f->pending -= n < f->pending ? n : f->pending;
    if (f->pending <= ST_CONN_LOW && !f->pumping)
        event_active(&f->resume, EV_TIMEOUT, 0);
}

void http_file_gone(struct http_event *he)
{
    file_close(he->file);
    st_event_unref(&he->ev);
}

#define PATH_HEADER "x-nuclio-filestream-path"
#define REMOVE_HEADER "x-nuclio-filestream-delete-after-send"

static bool may_have_ours(const struct st_http_response *r)
{
    for (size_t i = 0; i < r->header_count; i++)
        if (r->headers[i].name_len == sizeof PATH_HEADER - 1 ||
            r->headers[i].name_len == sizeof REMOVE_HEADER - 1)
            return true;
    return false;
}

/* The reply's headers without the two that are for us. True: there is a file to send. */
static bool take_headers(struct http_event *he, struct st_http_response *r, struct st_slice *path,
                         bool *remove)
{
    struct st_header *items;
    size_t kept = 0;

    http_own_headers(&he->hl->room, r, 0);
    items = he->hl->room.items;
    for (size_t i = 0; i < r->header_count; i++) {
        struct st_slice name = {items[i].name, items[i].name_len};
        if (st_slice_ieq(name, ST_SLICE(PATH_HEADER)))
            *path = (struct st_slice){items[i].value, items[i].value_len};
        else if (st_slice_ieq(name, ST_SLICE(REMOVE_HEADER)))
            *remove = true;
        else
            items[kept++] = items[i];
    }
    r->header_count = kept;
    return path->len > 0;
}

/* Opens a regular file; the way it fails becomes the status. */
static int file_open(const char *path, unsigned *status)
{
    /* O_NONBLOCK: the name of a FIFO must not stop the loop. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    *status = fd < 0 && errno == ENOENT ? 404 : 500;
    if (*status == 500)
        ST_LOG_LIMITED(ST_LOG_WARN, "processor.http", "Failed to open file for file streaming",
                       ST_KV_STR("path", path),
                       ST_KV_STR("error", fd < 0 ? strerror(errno) : "not a regular file"));
    if (fd >= 0)
        close(fd);
    return -1;
}

static struct http_file *file_new(struct http_event *he, struct st_slice path, unsigned *status)
{
    struct http_file *f = calloc(1, sizeof *f + path.len + 1);

    ST_ASSERT(f != NULL);
    memcpy(f->path, path.ptr, path.len);
    f->fd = file_open(f->path, status);
    if (f->fd < 0) {
        free(f);
        return NULL;
    }
    f->he = he;
    event_assign(&f->resume, he->hl->loop->base, -1, 0, on_resume, f);
    return f;
}

/* Without a file: an empty reply. */
static void respond_empty(struct st_http_response *r, unsigned status)
{
    r->status = status;
    r->content_type = r->body = (struct st_slice){NULL, 0};
    r->body_owner = NULL;
}

bool http_file_reply(struct http_event *he, struct st_http_response *r)
{
    struct st_slice path = {NULL, 0};
    struct http_file *f;
    bool remove = false;
    unsigned status;

    if (!may_have_ours(r) || !take_headers(he, r, &path, &remove))
        return false;
    f = file_new(he, path, &status);
    if (f == NULL) {
        respond_empty(r, status);
        return false;
    }
    f->remove = remove;
    /* The exchange goes on after this call. */
    if (st_event_detach(&he->ev) != ST_OK) {
        file_close(f);
        respond_empty(r, 503);
        return false;
    }
    st_event_ref(&he->ev);
    he->file = f;
    if (r->content_type.len == 0)
        r->content_type =
            st_slice_of(he->ev.trigger->processor->runtime->kind->default_content_type);
    he->x.ops->stream_head(&he->x, r);
    if (he->x.session == NULL || he->x.is_head)
        file_end(f, true);
    else
        file_pump(f);
    return true;
}
