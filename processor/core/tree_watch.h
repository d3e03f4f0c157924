/* Files below a folder that change, by inotify: every folder of the tree is watched, new ones too.
 * Main use: code that is developed, so trees are small. On one loop's thread. */
#ifndef PROCESSOR_CORE_TREE_WATCH_H
#define PROCESSOR_CORE_TREE_WATCH_H

#include "processor/core/base.h"
#include "processor/core/err.h"

struct st_loop;
struct st_tree_watch;

enum { ST_TREE_FOLDERS_MAX = 1000 };

struct st_tree_handler {
    /* Whether the tree goes on in this folder; symbolic links to folders are never followed. */
    bool (*enter)(void *user, const char *path);

    /* This file was written, made as a link, moved here or away, or removed. One that is being
     * written is told when it is closed. "": events were lost, it may be any. */
    void (*changed)(void *user, const char *path);
};

/* Watches nothing yet. NULL with *err. */
struct st_tree_watch *st_tree_watch_open(struct st_loop *loop,
                                         const struct st_tree_handler *handler, void *user,
                                         struct st_error *err);
void st_tree_watch_close(struct st_tree_watch *tw);

/* A folder; with `deep` also what is below it, as far as that can be watched: no more than
 * ST_TREE_FOLDERS_MAX folders in all, those near the top first. Paths of files begin with the path
 * that is given here. */
int st_tree_watch_add(struct st_tree_watch *tw, const char *path, bool deep,
                      struct st_error *err) ST_MUST_CHECK;

/* How many folders are watched; *all: none had to be left out. */
size_t st_tree_watch_count(const struct st_tree_watch *tw, bool *all);

#endif
