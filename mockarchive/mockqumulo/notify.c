/* Watchers, and the thread that turns what inotify says into their events.
 *
 * The tree is watched from the first client on. The thread takes the mock's lock for each batch; a watcher's stream takes what
 * fits and no more, so the thread never waits for a client. A watcher is freed when its stream has told that it is over. */
#include "mockarchive/mockqumulo/notify.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lockstore/thread.h"
#include "mockarchive/http_url.h"
#include "mockarchive/mockqumulo/mock.h"
#include "mockarchive/mockqumulo/notify_tree.h"

#define BATCH_BYTES (64 << 10)
#define PENDING_MOVES 64		/* directories that have left, until it is known where to */

static const char *const types[] = {
	"child_file_added", "child_dir_added", "child_file_removed", "child_dir_removed", "child_file_moved_from", "child_file_moved_to",
	"child_dir_moved_from", "child_dir_moved_to", "child_btime_changed", "child_mtime_changed", "child_atime_changed",
	"child_size_changed", "child_extra_attrs_changed", "child_acl_changed", "child_owner_changed", "child_group_changed",
	"child_data_written", "child_stream_added", "child_stream_removed", "child_stream_moved_from", "child_stream_moved_to",
	"child_stream_size_changed", "child_stream_data_written", "self_removed",
};
#define NTYPES (sizeof(types) / sizeof(types[0]))

struct watcher {
	struct notify *notify;
	struct notify_dir *dir;		/* NULL: ended */
	bool recursive;
	uint32_t filter;		/* bit of each type */
	struct http_stream *stream;	/* NULL: ended */
	struct watcher *next, **link;
};

struct move {
	uint32_t cookie;
	struct notify_dir *dir;
};

struct notify {
	struct mock *mock;		/* its lock guards all below */
	struct notify_tree *tree;	/* NULL: nobody has asked yet, or it was lost */
	struct watcher *watchers;
	unsigned count;
	struct move moves[PENDING_MOVES];
	unsigned nmoves;
	bool stopping;
	int wake_fd;
	pthread_t thread;
};

/* ---- watchers ---- */

static void end_watcher(struct watcher *w, const char *last_word)
{
	if (w->stream)
		http_stream_end_with(w->stream, last_word);
	w->stream = NULL;
	w->dir = NULL;
}

/* The form of it is a guess. The name is that of the audit log's list. */
static const char missed[] = "event: error\ndata: {\"module\": \"mockqumulo\", \"error_class\": \"fs_watcher_missed_events_error\", "
	"\"description\": \"the watcher is too far behind\", \"stack\": [], \"user_visible\": true}\n\n";

static void on_gone(void *owner)
{
	struct watcher *w = owner;
	struct mock *m = w->notify->mock;

	pthread_mutex_lock(&m->lock);
	end_watcher(w, "");
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->notify->count--;
	pthread_mutex_unlock(&m->lock);
	free(w);
}

/* ---- events ---- */

static unsigned type_of(const char *name)
{
	unsigned i = 0;

	while (i < NTYPES && strcmp(types[i], name) != 0)
		i++;
	return i;
}

/* Ids from the root to the directory; with a name, the id of that, too. */
static json_t *spine_json(struct notify *n, const struct notify_dir *dir, const char *name, bool is_there)
{
	struct files *files = n->mock->files;
	const struct notify_dir *root = dir, *chain[300];
	json_t *spine = json_array();
	unsigned depth = 0;
	struct found found;
	char *path, id[24];

	for (; root && depth < 300; root = root->parent)
		chain[depth++] = root;
	root = chain[depth - 1];
	for (unsigned i = depth + is_there; i-- > 0; ) {
		const struct notify_dir *at = i >= (unsigned)is_there ? chain[i - is_there] : NULL;
		char *relative = at ? notify_tree_path(root, at, "") : notify_tree_path(root, dir, name);

		/* A directory's own ends in a slash. */
		if (relative && at && *relative)
			relative[strlen(relative) - 1] = '\0';
		path = relative ? files_join("/", relative) : NULL;
		if (path && files_find_path(files, path, &found) == 0) {
			snprintf(id, sizeof(id), "%llu", (unsigned long long)found.file->id);
			json_array_append_new(spine, json_string(id));
			found_fini(&found);
		}
		free(path);
		free(relative);
	}
	return spine;
}

static bool is_below(const struct notify_dir *dir, const struct notify_dir *above)
{
	while (dir && dir != above)
		dir = dir->parent;
	return dir != NULL;
}

static void push_event(struct notify *n, struct watcher *w, struct notify_dir *dir, const char *name, uint32_t wanted, bool is_there)
{
	char *path = notify_tree_path(w->dir, dir, name), *text = NULL, *line = NULL;
	json_t *list = json_array(), *spine = spine_json(n, dir, name, is_there);
	int len = -1;

	for (unsigned i = 0; path && i < NTYPES; i++)
		if (wanted & w->filter & 1u << i)
			json_array_append_new(list, json_pack("{s:s, s:s, s:O, s:n}", "type", types[i], "path", path, "spine", spine, "stream_name"));
	/* A name that is not UTF-8 makes no event: then the list is empty. */
	if (json_array_size(list))
		text = json_dumps(list, JSON_COMPACT);
	if (text)
		len = asprintf(&line, "data: %s\n\n", text);
	if (len > 0 && http_stream_push(w->stream, line, len) == -ENOBUFS)
		end_watcher(w, missed);
	if (len >= 0)
		free(line);
	free(text);
	free(path);
	json_decref(spine);
	json_decref(list);
}

/* is_there: the name still leads to the file, so that its id can be told. */
static void tell(struct notify *n, struct notify_dir *dir, const char *name, uint32_t wanted, bool is_there)
{
	for (struct watcher *w = n->watchers; w; w = w->next) {
		if (w->stream && (wanted & w->filter) && (w->dir == dir || (w->recursive && is_below(dir, w->dir))))
			push_event(n, w, dir, name, wanted, is_there);
	}
}

static uint32_t bit(const char *name)
{
	return 1u << type_of(name);
}

static void on_found(void *arg, struct notify_dir *dir, const char *name, bool is_dir)
{
	tell(arg, dir, name, bit(is_dir ? "child_dir_added" : "child_file_added"), true);
}

static void on_dir_gone(void *arg, struct notify_dir *dir)
{
	static const char last[] = "data: [{\"type\": \"self_removed\", \"path\": \"\", \"spine\": [], \"stream_name\": null}]\n\n";
	struct notify *n = arg;

	for (struct watcher *w = n->watchers; w; w = w->next)
		if (w->dir == dir)
			end_watcher(w, w->filter & bit("self_removed") ? last : "");
	for (unsigned i = 0; i < n->nmoves; )
		if (n->moves[i].dir == dir)
			n->moves[i] = n->moves[--n->nmoves];
		else
			i++;
}

/* A directory of that name which has left, nobody knows where to, makes room for a new one. */
static void drop_move(struct notify *n, struct notify_dir *child)
{
	for (unsigned i = 0; child && i < n->nmoves; i++) {
		if (n->moves[i].dir == child) {
			notify_tree_remove(n->tree, child, on_dir_gone, n);
			return;
		}
	}
}

/* Watches again from the start with the next client; who watches now has missed something. */
static void lose_tree(struct notify *n)
{
	for (struct watcher *w = n->watchers; w; w = w->next)
		end_watcher(w, missed);
	n->nmoves = 0;
	notify_tree_close(n->tree);
	n->tree = NULL;
}

static void add_dir(struct notify *n, struct notify_dir *dir, const char *name)
{
	if (n->tree && notify_tree_add(n->tree, files_root_fd(n->mock->files), dir, name, on_found, n) < 0)
		lose_tree(n);
}

static void dir_left(struct notify *n, uint32_t cookie, struct notify_dir *child)
{
	if (n->nmoves < PENDING_MOVES)
		n->moves[n->nmoves++] = (struct move){ cookie, child };
	else
		notify_tree_remove(n->tree, child, on_dir_gone, n);
}

static void dir_came(struct notify *n, uint32_t cookie, struct notify_dir *dir, const char *name)
{
	for (unsigned i = 0; i < n->nmoves; i++) {
		if (n->moves[i].cookie != cookie)
			continue;
		if (notify_tree_move(n->moves[i].dir, dir, name) < 0) {
			lose_tree(n);
			return;
		}
		n->moves[i] = n->moves[--n->nmoves];
		return;
	}
	add_dir(n, dir, name);
}

static void handle(struct notify *n, const struct inotify_event *e)
{
	struct notify_dir *dir = notify_tree_of(n->tree, e->wd), *child;
	bool is_dir = e->mask & IN_ISDIR;

	if (e->mask & IN_Q_OVERFLOW) {
		lose_tree(n);
		return;
	}
	/* Of the directory itself: its parent's watch tells, too. */
	if (!dir || !e->len)
		return;
	child = is_dir ? notify_tree_child(dir, e->name) : NULL;
	if (e->mask & IN_CREATE) {
		if (!notify_tree_was_scanned(dir, e->name))
			tell(n, dir, e->name, bit(is_dir ? "child_dir_added" : "child_file_added"), true);
		drop_move(n, child);
		if (is_dir)
			add_dir(n, dir, e->name);
	} else if (e->mask & IN_DELETE) {
		(void)notify_tree_was_scanned(dir, e->name);	/* the next of this name is another */
		tell(n, dir, e->name, bit(is_dir ? "child_dir_removed" : "child_file_removed"), false);
		if (child)
			notify_tree_remove(n->tree, child, on_dir_gone, n);
	} else if (e->mask & IN_MOVED_FROM) {
		tell(n, dir, e->name, bit(is_dir ? "child_dir_moved_from" : "child_file_moved_from"), false);
		if (child)
			dir_left(n, e->cookie, child);
	} else if (e->mask & IN_MOVED_TO) {
		tell(n, dir, e->name, bit(is_dir ? "child_dir_moved_to" : "child_file_moved_to"), true);
		if (is_dir)
			dir_came(n, e->cookie, dir, e->name);
	} else if (e->mask & IN_MODIFY) {
		tell(n, dir, e->name, bit("child_data_written") | bit("child_size_changed") | bit("child_mtime_changed"), true);
	} else if (e->mask & IN_ATTRIB) {
		/* What it was inotify does not say. */
		tell(n, dir, e->name, bit("child_acl_changed") | bit("child_mtime_changed"), true);
	}
}

/* False: there is nothing more to read. */
static bool read_batch(struct notify *n, char *buf)
{
	ssize_t len = n->tree ? read(notify_tree_fd(n->tree), buf, BATCH_BYTES) : -1;

	for (char *at = buf; len > 0 && n->tree && at < buf + len; ) {
		const struct inotify_event *e = (const struct inotify_event *)at;

		handle(n, e);
		at += sizeof(*e) + e->len;
	}
	return len > 0;
}

static void *notify_main(void *arg)
{
	char *buf = malloc(BATCH_BYTES);
	struct notify *n = arg;

	pthread_mutex_lock(&n->mock->lock);
	while (!n->stopping && buf) {
		struct pollfd fds[2] = { { .fd = n->wake_fd, .events = POLLIN },
			{ .fd = n->tree ? notify_tree_fd(n->tree) : -1, .events = POLLIN } };
		uint64_t wakes;

		pthread_mutex_unlock(&n->mock->lock);
		(void)poll(fds, 2, -1);
		(void)!read(n->wake_fd, &wakes, sizeof(wakes));	/* empty is fine */
		pthread_mutex_lock(&n->mock->lock);
		while (read_batch(n, buf))
			;
		/* Both halves of a move are queued at once: a first half that is still alone has left the tree. */
		while (n->tree && n->nmoves > 0)
			notify_tree_remove(n->tree, n->moves[--n->nmoves].dir, on_dir_gone, n);
	}
	pthread_mutex_unlock(&n->mock->lock);
	free(buf);
	return NULL;
}

static void wake(struct notify *n)
{
	(void)!write(n->wake_fd, &(uint64_t){ 1 }, sizeof(uint64_t));	/* a full counter wakes, too */
}

/* ---- requests ---- */

/* All types where there is no filter. -EINVAL: one that there is not. */
static int take_filter(struct exchange *x, uint32_t *ret_filter)
{
	uint32_t filter = 0;
	char *text, *save;
	int r = http_query_get(x->query, "filter", &text);

	if (r == -ENOENT) {
		*ret_filter = UINT32_MAX;
		return 0;
	}
	if (r < 0)
		return r;
	for (char *name = strtok_r(text, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
		if (type_of(name) == NTYPES)
			r = -EINVAL;
		else
			filter |= bit(name);
	}
	free(text);
	*ret_filter = filter;
	return filter ? r : -EINVAL;
}

static bool take_recursive(struct exchange *x, bool *ret_recursive)
{
	const struct switches *s = &x->mock->switches;
	struct refusal refusal = refusal_of(s, SW_RECURSIVE_OFF, "recursive notification is off");

	*ret_recursive = exchange_flag(x, "recursive");
	if (*ret_recursive && switch_value(s, SW_DATA_ADMIN) == SWITCH_NO) {
		struct refusal no_privilege = refusal_of(s, SW_NO_PRIVILEGE, "recursive notification is for data administrators");

		exchange_refuse(x, no_privilege.status ? no_privilege.status : 403, no_privilege.error_class, no_privilege.why);
		return false;
	}
	if (*ret_recursive && switch_value(s, SW_NOTIFY) == NOTIFY_DISABLED_ERROR && refusal.status) {
		exchange_refuse_by(x, &refusal);
		return false;
	}
	if (switch_value(s, SW_NOTIFY) != NOTIFY_ENABLED)
		*ret_recursive = false;
	return true;
}

static void start_stream(struct exchange *x, struct watcher *w)
{
	const struct switches *s = &x->mock->switches;
	struct http_stream_options options = { .status = 200, .content_type = "text/event-source",
		.buffer_max_bytes = switch_value(s, SW_WATCH_BUFFER), .keepalive = ": keepalive\n\n",
		.keepalive_ms = switch_value(s, SW_KEEPALIVE_MS), .gone = on_gone, .owner = w };
	struct http_shape shape = { .delay_ms = switch_value(s, SW_LATENCY_MS) };
	struct notify *n = w->notify;

	w->next = n->watchers;
	w->link = &n->watchers;
	if (w->next)
		w->next->link = &w->next;
	n->watchers = w;
	n->count++;
	exchange_begin_stream(x);
	http_request_set_shape(x->req, &shape);
	if (http_reply_stream(x->req, &options, &w->stream) < 0) {
		n->watchers = w->next;
		if (w->next)
			w->next->link = &n->watchers;
		n->count--;
		free(w);
		return;
	}
	(void)http_stream_push(w->stream, ": watching\n\n", 12);	/* a client that is gone has on_gone() */
}

void notify_request(struct exchange *x, struct found *dir)
{
	struct notify *n = x->mock->notify;
	struct watcher *w;
	uint32_t filter;
	bool recursive;
	int r;

	if (!S_ISDIR(dir->st.stx_mode)) {
		exchange_refuse(x, 400, "fs_not_a_directory_error", "not a directory");
		return;
	}
	if (take_filter(x, &filter) < 0) {
		exchange_refuse(x, 400, "decode_error", "the filter has a type that there is not");
		return;
	}
	if (!take_recursive(x, &recursive))
		return;
	if (n->count >= NOTIFY_WATCHERS_MAX) {
		exchange_refuse(x, 503, "fs_watcher_limit_error", "too many watchers");
		return;
	}
	r = n->tree ? 0 : notify_tree_open(files_root_fd(x->mock->files), &n->tree);
	if (r < 0) {
		exchange_refuse(x, 503, "fs_watcher_limit_error", r == -ENOSPC ?
			"too many directories for inotify: see fs.inotify.max_user_watches" : strerror(-r));
		return;
	}
	wake(n);
	w = calloc(1, sizeof(*w));
	if (w)
		*w = (struct watcher){ .notify = n, .dir = notify_tree_find(n->tree, dir->st.stx_ino), .recursive = recursive, .filter = filter };
	if (!w || !w->dir) {	/* so new that the thread has not heard of it */
		free(w);
		exchange_refuse(x, 503, "fs_watcher_limit_error", "the directory is not watched yet, try again");
		return;
	}
	start_stream(x, w);
}

void notify_settings(struct exchange *x)
{
	static const struct { const char *mode, *value; } modes[] = {
		{ "ENABLED", "enabled" }, { "DISABLED_ERROR", "disabled-error" }, { "DISABLED_IGNORE", "disabled-ignore" },
	};
	struct switches *s = &x->mock->switches;
	const char *mode, *expected;
	json_t *body;

	if (strcmp(x->method, "PUT") == 0) {
		int r = -EINVAL;

		body = json_loadb(x->body, x->body_len, 0, NULL);
		mode = json_string_value(json_object_get(body, "recursive_mode"));
		for (unsigned i = 0; mode && i < 3; i++)
			if (strcmp(mode, modes[i].mode) == 0)
				r = switches_set(s, "notify", modes[i].value, &expected);
		json_decref(body);
		if (r < 0) {
			exchange_refuse(x, 400, "decode_error", "recursive_mode is ENABLED, DISABLED_ERROR or DISABLED_IGNORE");
			return;
		}
	} else if (strcmp(x->method, "GET") != 0) {
		exchange_refuse(x, 405, "http_method_not_allowed_error", "no such method here");
		return;
	}
	x->json = json_pack("{s:s}", "recursive_mode", modes[switch_value(s, SW_NOTIFY)].mode);
}

json_t *notify_json(const struct notify *n)
{
	json_t *all = json_array();

	for (const struct watcher *w = n->watchers; w; w = w->next) {
		const struct notify_dir *root = w->dir;
		char *path;

		while (root && root->parent)
			root = root->parent;
		path = w->dir ? notify_tree_path(root, w->dir, "") : NULL;
		json_array_append_new(all, json_pack("{s:s?, s:b}", "below", path, "recursive", w->recursive));
		free(path);
	}
	return all;
}

void notify_drop(struct notify *n, bool behind)
{
	for (struct watcher *w = n->watchers; w; w = w->next)
		end_watcher(w, behind ? missed : "");
}

int notify_open(struct mock *mock, struct notify **ret_notify)
{
	struct notify *n = calloc(1, sizeof(*n));
	int r;

	if (!n)
		return -ENOMEM;
	n->mock = mock;
	n->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (n->wake_fd < 0) {
		r = -errno;
		free(n);
		return r;
	}
	r = thread_start(&n->thread, "notify", notify_main, n);
	if (r < 0) {
		close(n->wake_fd);
		free(n);
		return r;
	}
	*ret_notify = n;
	return 0;
}

void notify_close(struct notify *n)
{
	if (!n)
		return;
	pthread_mutex_lock(&n->mock->lock);
	n->stopping = true;
	pthread_mutex_unlock(&n->mock->lock);
	wake(n);
	pthread_join(n->thread, NULL);
	notify_tree_close(n->tree);
	close(n->wake_fd);
	free(n);
}
