#include "processor/core/tree_watch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "processor/core/alloc.h"
#include "processor/core/loop.h"

enum {
    EVENTS = IN_CLOSE_WRITE | IN_CREATE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR,
    READ_SIZE = 16 * 1024
};

struct folder {
    int wd;
    bool deep;
    char *path;
};

struct st_tree_watch {
    const struct st_tree_handler *handler;
    void *user;
    int fd;
    bool left_out; /* folders that could not be watched */
    struct event event;
    size_t count;
    struct folder folders[ST_TREE_FOLDERS_MAX];
};

static struct folder *find(struct st_tree_watch *tw, int wd)
{
    for (size_t i = 0; i < tw->count; i++)
        if (tw->folders[i].wd == wd)
            return &tw->folders[i];
    return NULL;
}

/* 0, or an errno. */
static int add_folder(struct st_tree_watch *tw, const char *path, bool deep)
{
    struct folder *known;
    int wd;

    if (tw->count == ST_TREE_FOLDERS_MAX)
        return ENOSPC;
    wd = inotify_add_watch(tw->fd, path, EVENTS);
    if (wd < 0)
        return errno;
    known = find(tw, wd);
    if (known != NULL)
        known->deep |= deep;
    else
        tw->folders[tw->count++] = (struct folder){.wd = wd, .deep = deep, .path = st_strdup(path)};
    return 0;
}

static bool is_folder(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void add_below(struct st_tree_watch *tw, const char *path)
{
    int rc = tw->handler->enter(tw->user, path) ? add_folder(tw, path, true) : 0;

    if (rc != 0 && rc != ENOENT) /* it is gone again */
        tw->left_out = true;
}

/* Looks into the folder for others; `tell`: its files are new. */
static void scan(struct st_tree_watch *tw, const char *path, bool tell)
{
    const struct dirent *entry;
    char below[PATH_MAX];
    DIR *dir = opendir(path);

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        int n = snprintf(below, sizeof below, "%s/%s", path, entry->d_name);

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            n >= (int)sizeof below)
            continue;
        if (is_folder(below))
            add_below(tw, below);
        else if (tell)
            tw->handler->changed(tw->user, below);
    }
    closedir(dir);
}

/* Those from number `first` on are watched and not looked into yet; what is found comes behind. */
static void scan_from(struct st_tree_watch *tw, size_t first, bool tell)
{
    for (size_t i = first; i < tw->count; i++)
        if (tw->folders[i].deep)
            scan(tw, tw->folders[i].path, tell);
}

int st_tree_watch_add(struct st_tree_watch *tw, const char *path, bool deep, struct st_error *err)
{
    size_t first = tw->count;
    int rc = add_folder(tw, path, deep);

    if (rc != 0)
        return st_error_sys(err, rc, "can't watch the folder %s%s", path,
                            rc == ENOSPC ? " (fs.inotify.max_user_watches)" : "");
    scan_from(tw, first, false);
    return ST_OK;
}

/* What was moved away is not of the tree any more; the kernel tells when each watch is gone. */
static void remove_below(struct st_tree_watch *tw, const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < tw->count; i++) {
        const char *at = tw->folders[i].path;

        if (strncmp(at, path, len) == 0 && (at[len] == '/' || at[len] == '\0'))
            inotify_rm_watch(tw->fd, tw->folders[i].wd);
    }
}

static void forget(struct st_tree_watch *tw, struct folder *folder)
{
    free(folder->path);
    *folder = tw->folders[--tw->count];
}

static bool is_link(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

static void take_folder(struct st_tree_watch *tw, const char *path, uint32_t what)
{
    size_t first = tw->count;

    if ((what & IN_MOVED_FROM) != 0)
        remove_below(tw, path);
    if ((what & (IN_CREATE | IN_MOVED_TO)) == 0)
        return;
    add_below(tw, path);
    scan_from(tw, first, true);
}

static void take(struct st_tree_watch *tw, const struct inotify_event *ev)
{
    struct folder *folder = find(tw, ev->wd);
    char path[PATH_MAX];

    if ((ev->mask & IN_Q_OVERFLOW) != 0)
        tw->handler->changed(tw->user, "");
    if (folder == NULL)
        return;
    if ((ev->mask & IN_IGNORED) != 0) {
        forget(tw, folder);
        return;
    }
    if (ev->len == 0 ||
        snprintf(path, sizeof path, "%s/%s", folder->path, ev->name) >= (int)sizeof path)
        return;
    if ((ev->mask & IN_ISDIR) == 0) {
        if ((ev->mask & IN_CREATE) == 0 || is_link(path))
            tw->handler->changed(tw->user, path);
    } else if (folder->deep) {
        take_folder(tw, path, ev->mask);
    }
}

static void on_events(evutil_socket_t fd, short what ST_UNUSED, void *arg)
{
    _Alignas(struct inotify_event) char buffer[READ_SIZE];
    ssize_t n = read(fd, buffer, sizeof buffer);

    for (ssize_t at = 0; at < n;) {
        const struct inotify_event *ev = (const void *)(buffer + at);

        take(arg, ev);
        at += (ssize_t)sizeof *ev + ev->len;
    }
}

size_t st_tree_watch_count(const struct st_tree_watch *tw, bool *all)
{
    *all = !tw->left_out;
    return tw->count;
}

struct st_tree_watch *st_tree_watch_open(struct st_loop *loop,
                                         const struct st_tree_handler *handler, void *user,
                                         struct st_error *err)
{
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    struct st_tree_watch *tw;

    if (fd < 0) {
        st_error_sys(err, errno, "can't watch folders");
        return NULL;
    }
    tw = st_calloc(1, sizeof *tw);
    tw->handler = handler;
    tw->user = user;
    tw->fd = fd;
    event_assign(&tw->event, loop->base, fd, EV_READ | EV_PERSIST, on_events, tw);
    ST_ASSERT(event_add(&tw->event, NULL) == 0);
    return tw;
}

void st_tree_watch_close(struct st_tree_watch *tw)
{
    if (tw == NULL)
        return;
    event_del(&tw->event);
    close(tw->fd);
    for (size_t i = 0; i < tw->count; i++)
        free(tw->folders[i].path);
    free(tw);
}
