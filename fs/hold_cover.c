/* What orders about holds cover: asked at each lock and each removal, so a mount without orders pays two atomic looks.
 * A ledger that cannot answer covers everything. */
#include "fs/hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/log.h"

/* ---- what covers a file ---- */

int hold_refresh(struct wormfs *fs)
{
	uint64_t placing = 1, coming = 1;
	int r = ledger_orders_count(fs->ledger, &placing, &coming);

	atomic_store(&fs->orders_placing, placing < UINT32_MAX ? placing : UINT32_MAX);
	atomic_store(&fs->orders_coming, coming < UINT32_MAX ? coming : UINT32_MAX);
	return r;
}

struct cover {
	struct wormfs *fs;
	enum order_cover which;
	ledger_order_fn fn;
	void *arg;
	int found;
};

static int cover_path(void *arg, const char *path)
{
	struct cover *cover = arg;
	int r = ledger_orders_cover(cover->fs->ledger, path, cover->which, cover->fn, cover->arg);

	if (r < 0)
		return r;
	cover->found += r;
	return 0;
}

static int cover_any(void *arg, const struct hold_order *order)
{
	struct cover *cover = arg;

	if (cover->which == COVER_LOCKED ? order->state != ORDER_PLACING :
	    !order->future || (order->state != ORDER_PLACING && order->state != ORDER_PLACED))
		return 0;
	cover->found++;
	return cover->fn ? cover->fn(cover->arg, order) : 0;
}

/* How many orders cover it. A file whose name nobody knows (an NFS handle after a restart) may be anywhere: every order
 * does. */
static int covers(struct wormfs *fs, struct inode *ino, enum order_cover which, ledger_order_fn fn, void *arg)
{
	struct cover cover = { .fs = fs, .which = which, .fn = fn, .arg = arg };
	int r = inode_each_path(fs, ino, cover_path, &cover);

	if (r == -ENOENT)
		r = ledger_orders(fs->ledger, NULL, cover_any, &cover);
	return r < 0 ? r : cover.found;
}

int hold_covers_locked(struct wormfs *fs, struct inode *ino)
{
	int r;

	if (!atomic_load(&fs->orders_placing))
		return 0;
	r = covers(fs, ino, COVER_LOCKED, NULL, NULL);
	return r < 0 ? r : r > 0;
}

int hold_covers_coming(struct wormfs *fs, struct inode *ino)
{
	int r;

	if (!atomic_load(&fs->orders_coming))
		return 0;
	r = covers(fs, ino, COVER_COMING, NULL, NULL);
	return r < 0 ? r : r > 0;
}

struct names {
	char *text;		/* '\n' between */
	size_t len;
	unsigned count;
};

static bool names_have(const struct names *names, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = names->text; p && *p; p = *strchrnul(p, '\n') ? strchrnul(p, '\n') + 1 : NULL)
		if (strncmp(p, name, len) == 0 && (p[len] == '\n' || !p[len]))
			return true;
	return false;
}

static int names_add(struct names *names, const char *name)
{
	size_t len = strlen(name);
	char *text;

	if (names_have(names, name))
		return 0;
	text = realloc(names->text, names->len + len + 2);
	if (!text)
		return -ENOMEM;
	names->text = text;
	if (names->len)
		text[names->len++] = '\n';
	memcpy(text + names->len, name, len + 1);
	names->len += len;
	names->count++;
	return 0;
}

static int add_order_name(void *arg, const struct hold_order *order)
{
	return names_add(arg, order->name);
}

/* The names of a rule, '\n' between them, or NULL. */
static int names_add_lines(struct names *names, const char *lines)
{
	char *copy = lines ? strdup(lines) : NULL, *save = NULL;
	int r = lines && !copy ? -ENOMEM : 0;

	for (char *name = copy ? strtok_r(copy, "\n", &save) : NULL; name && r == 0; name = strtok_r(NULL, "\n", &save))
		r = names_add(names, name);
	free(copy);
	return r;
}

int hold_names_covering(struct wormfs *fs, struct inode *ino, enum order_cover which, char **ret_names)
{
	struct names names = { 0 };
	int r = 0;

	if (atomic_load(which == COVER_LOCKED ? &fs->orders_placing : &fs->orders_coming))
		r = covers(fs, ino, which, add_order_name, &names);
	if (r < 0) {
		free(names.text);
		return r;
	}
	*ret_names = names.text;
	return 0;
}

int hold_names_coming(struct wormfs *fs, struct inode *ino, const char *holds, char **ret_names, unsigned *ret_count)
{
	struct names names = { 0 };
	int r = names_add_lines(&names, holds);

	if (r == 0 && atomic_load(&fs->orders_coming))
		r = covers(fs, ino, COVER_COMING, add_order_name, &names);
	if (r < 0) {
		free(names.text);
		return r;
	}
	*ret_names = names.text;
	*ret_count = names.count;
	return 0;
}

/* ---- names that move ---- */

struct ids {
	int64_t id[64];		/* orders that cover one path; more are taken for a no */
	unsigned n;
};

static int add_id(void *arg, const struct hold_order *order)
{
	struct ids *ids = arg;

	if (ids->n == sizeof(ids->id) / sizeof(ids->id[0]))
		return -EPERM;
	ids->id[ids->n++] = order->id;
	return 0;
}

static bool has_id(const struct ids *ids, int64_t id)
{
	for (unsigned i = 0; i < ids->n; i++)
		if (ids->id[i] == id)
			return true;
	return false;
}

int hold_check_move(struct wormfs *fs, struct inode *from_dir, const char *name, bool dir, struct inode *to_dir)
{
	char *from_path = NULL, *to_path = NULL, *path = NULL;
	struct ids from = { 0 }, to = { 0 };
	int r;

	if (!atomic_load(&fs->orders_coming))
		return 0;
	r = inode_path(fs, from_dir, &from_path);
	if (r == 0)
		r = inode_path(fs, to_dir, &to_path);
	if (r == 0 && asprintf(&path, "%s%s%s", from_path, *from_path ? "/" : "", name) < 0) {
		path = NULL;
		r = -ENOMEM;
	}
	if (r == 0 && dir)
		r = ledger_orders_below(fs->ledger, path) == 0 ? 0 : -EPERM;
	if (r == 0)
		r = ledger_orders_cover(fs->ledger, path, COVER_COMING, add_id, &from);
	if (r >= 0)
		r = ledger_orders_cover(fs->ledger, to_path, COVER_COMING, add_id, &to);
	for (unsigned i = 0; r >= 0 && i < from.n; i++)
		if (!has_id(&to, from.id[i]))
			r = -EPERM;
	free(path);
	free(from_path);
	free(to_path);
	return r < 0 ? r : 0;
}
