#include "runtimes/process/orphans.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LOOK_S = 10, LIST_SIZE = 64 * 1024, STAT_SIZE = 512 };

/* Reads a small file of /proc as text; false: it is gone. */
static bool read_text(const char *path, char *out, size_t n)
{
    FILE *f = fopen(path, "re");
    size_t len;

    if (f == NULL)
        return false;
    len = fread(out, 1, n - 1, f);
    out[len] = '\0';
    fclose(f);
    return len > 0;
}

/* It has ended, and is a member of somebody else's session: proc(5), /proc/PID/stat, fields 3 and 6
 * behind the name, which may have anything in it. */
static bool is_ended_orphan(pid_t pid)
{
    char path[32], text[STAT_SIZE], *at;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (!read_text(path, text, sizeof text))
        return false;
    at = strrchr(text, ')');
    if (at == NULL || strncmp(at, ") Z ", 4) != 0)
        return false;
    at += 4;
    strtol(at, &at, 10); /* its parent */
    strtol(at, &at, 10); /* its group */
    return strtol(at, NULL, 10) != pid;
}

static unsigned collect_from(const char *list)
{
    unsigned n = 0;
    char *end;

    for (long pid = strtol(list, &end, 10); end != list; pid = strtol(list, &end, 10)) {
        if (is_ended_orphan((pid_t)pid) && waitpid((pid_t)pid, NULL, WNOHANG) == (pid_t)pid)
            n++;
        list = end;
    }
    return n;
}

unsigned st_orphans_collect(void)
{
    static char list[LIST_SIZE]; /* of the main thread; what does not fit waits for the next look */
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *task;
    unsigned n = 0;

    while (tasks != NULL && (task = readdir(tasks)) != NULL) {
        char path[300];

        snprintf(path, sizeof path, "/proc/self/task/%s/children", task->d_name);
        if (task->d_name[0] != '.' && read_text(path, list, sizeof list))
            n += collect_from(list);
    }
    if (tasks != NULL)
        closedir(tasks);
    return n;
}

static void look(struct st_timer *t)
{
    struct st_orphans *o = ST_CONTAINER_OF(t, struct st_orphans, timer);

    st_orphans_collect();
    st_loop_timer_arm(o->loop, &o->timer, LOOK_S * ST_SEC);
}

static void begin(struct st_orphans *o)
{
    o->looks = true;
    st_loop_timer_arm(o->loop, &o->timer, LOOK_S * ST_SEC);
}

void st_orphans_watch(struct st_orphans *o, struct st_loop *main_loop)
{
    o->loop = main_loop;
    st_timer_init(&o->timer, look);
    if (getpid() == 1)
        begin(o);
}

int st_orphans_adopt(struct st_orphans *o, struct st_error *err)
{
    if (o->looks)
        return ST_OK;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return st_error_sys(err, errno, "can't adopt orphans");
    begin(o);
    return ST_OK;
}

void st_orphans_leave(struct st_orphans *o)
{
    if (o->loop != NULL)
        st_loop_timer_cancel(o->loop, &o->timer);
}
