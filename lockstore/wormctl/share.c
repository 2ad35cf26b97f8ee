/* Owns what this run knows about shares: the mount table, read once, and each share, asked once.
 *
 * A path is in a share when the mount that the kernel would take for it is one of wormfs, or else when
 * it, or a directory above it, carries the share's id (lower_xattr_share): then nothing is mounted
 * there, or the path was named below a mount that is elsewhere. */
#include "lockstore/wormctl/share.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "lockstore/control.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/mount_query.h"
#include "lockstore/wormctl/mounts.h"
#include "lockstore/wormctl/real_path.h"

#define LAST_WORDS_S 10		/* how long a daemon may take to write its ledger after an unmount */

struct shares {
	const struct wormctl *ctl;
	struct mounts mounts;
	struct share **list;
	size_t count;
};

char *path_join(const char *dir, const char *name)
{
	size_t len = strlen(dir);
	bool slash = len && *name && dir[len - 1] != '/';
	char *path = malloc(len + strlen(name) + 2);

	if (path)
		sprintf(path, "%s%s%s", dir, slash ? "/" : "", name);
	return path;
}

static void share_free(struct share *share)
{
	if (!share)
		return;
	client_close(share->client);
	json_decref(share->mount);
	free(share->dir);
	free(share->inside);
	free(share->lower_dir);
	free(share->id);
	free(share->state_dir);
	free(share);
}

int shares_open(const struct wormctl *ctl, struct shares **ret_shares)
{
	struct shares *shares = calloc(1, sizeof(*shares));
	int r;

	if (!shares)
		return -ENOMEM;
	shares->ctl = ctl;
	r = mounts_read(NULL, &shares->mounts);
	if (r == -ENOMEM) {
		free(shares);
		return r;
	}
	/* Without /proc there is no table: then everything counts as not mounted. */
	*ret_shares = shares;
	return 0;
}

void shares_close(struct shares *shares)
{
	if (!shares)
		return;
	for (size_t i = 0; i < shares->count; i++)
		share_free(shares->list[i]);
	free(shares->list);
	mounts_fini(&shares->mounts);
	free(shares);
}

void place_fini(struct place *place)
{
	free(place->real);
	free(place->path);
	place->real = place->path = NULL;
}

/* Takes `share` over in all cases. */
static int shares_add(struct shares *shares, struct share *share)
{
	struct share **grown = reallocarray(shares->list, shares->count + 1, sizeof(*grown));

	if (!grown) {
		share_free(share);
		return -ENOMEM;
	}
	shares->list = grown;
	shares->list[shares->count++] = share;
	return 0;
}

/* ---- the mount ---- */

static int mount_failure(const char *point, int error, struct failure *f)
{
	switch (error) {
	case -ENOTCONN:
	case -ECONNABORTED:
		return fail(f, error, "the daemon of %s is gone: umount %s, then mount it again with wormfs", quoted(point),
			    quoted(point));
	case -ETIMEDOUT:
		return fail(f, error, "the daemon of %s does not answer for %d s", quoted(point), MOUNT_QUERY_S);
	case -EPROTO:
	case -ENODATA:
	case -EOPNOTSUPP:
		return fail(f, error, "what is mounted at %s does not answer as wormfs", quoted(point));
	}
	return fail(f, error, "cannot ask the mount at %s: %s", quoted(point), strerror(-error));
}

static int copy_text(char **field, const char *text)
{
	*field = strdup(text);
	return *field ? 0 : -ENOMEM;
}

/* `path`, in that mount, is asked where its root may not be read by us. */
static int share_of_mount(struct shares *shares, const struct mount *m, const char *path, struct share **ret_share,
			  struct failure *f)
{
	struct share *share;
	int r;

	for (size_t i = 0; i < shares->count; i++) {
		if (!shares->list[i]->mounted || strcmp(shares->list[i]->dir, m->point) != 0)
			continue;
		if (shares->list[i]->failure.error) {
			*f = shares->list[i]->failure;
			return f->error;
		}
		*ret_share = shares->list[i];
		return 0;
	}
	share = calloc(1, sizeof(*share));
	if (!share)
		return fail(f, -ENOMEM, "out of memory");
	share->mounted = true;
	share->client_error = 1;
	share->dir = strdup(m->point);
	share->inside = strdup(m->root + strspn(m->root, "/"));
	r = share->dir && share->inside ? mount_query(m->point, &share->mount) : -ENOMEM;
	if (r == -EACCES && path)
		r = mount_query(path, &share->mount);
	if (r == -ENOMEM)
		goto nomem;
	if (r < 0 && r != -EACCES) {
		(void)mount_failure(m->point, r, f);
		share->failure = *f;
		return shares_add(shares, share) < 0 ? fail(f, -ENOMEM, "out of memory") : r;
	}
	if (copy_text(&share->id, json_get_text(share->mount, "share_id")) < 0)
		goto nomem;
	if (shares->ctl->state_dir) {
		share->state_dir_given = true;
		if (copy_text(&share->state_dir, shares->ctl->state_dir) < 0)
			goto nomem;
	} else if (*json_get_text(share->mount, "state_dir")) {
		char *state_dir;

		/* Paths that are no UTF-8 can only be in JSON as the protocol writes paths. */
		if (json_get_text(share->mount, "state_dir")[0] == '/')
			r = copy_text(&share->state_dir, json_get_text(share->mount, "state_dir"));
		else if (control_path_decode(json_get_text(share->mount, "state_dir"), &state_dir) == 0)
			share->state_dir = state_dir;
		if (r == -ENOMEM)
			goto nomem;
	}
	r = shares_add(shares, share);
	if (r < 0)
		return fail(f, r, "out of memory");
	*ret_share = share;
	return 0;
nomem:
	share_free(share);
	return fail(f, -ENOMEM, "out of memory");
}

int shares_each_mount(struct shares *shares, share_fn fn, void *arg)
{
	for (size_t i = 0; i < shares->mounts.count; i++) {
		const struct mount *m = &shares->mounts.list[i];
		struct share *share;
		struct failure f;
		bool seen = strcmp(m->root, "/") != 0;
		int r;

		for (size_t k = 0; k < i && !seen; k++)
			seen = shares->mounts.list[k].major == m->major && shares->mounts.list[k].minor == m->minor &&
			       strcmp(shares->mounts.list[k].root, "/") == 0;
		if (!mount_is_worm(m) || seen)
			continue;
		if (mounts_find(&shares->mounts, m->point) != m) {
			fail(&f, -ENOENT, "the mount at %s is hidden by another one", quoted(m->point));
			r = fn(arg, m->point, NULL, &f);
		} else if (share_of_mount(shares, m, NULL, &share, &f) < 0) {
			r = fn(arg, m->point, NULL, &f);
		} else {
			r = fn(arg, m->point, share, NULL);
		}
		if (r)
			return r;
	}
	return 0;
}

/* ---- without a mount ---- */

static bool id_is_good(const char *id)
{
	size_t len = strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_");

	return len > 0 && len <= SHARE_ID_MAX_BYTES && !id[len];
}

/* The id that a directory carries as root of a share. -ENODATA: it is none. */
static int read_share_id(const char *dir, char ret_id[SHARE_ID_MAX_BYTES + 1], enum lower_namespace *ret_ns)
{
	static const enum lower_namespace order[] = { LOWER_TRUSTED, LOWER_USER };
	int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), r = -ENODATA;

	if (fd < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		ssize_t n = lower_getxattr(fd, lower_xattr_share(order[i]), ret_id, SHARE_ID_MAX_BYTES);

		if (n < 0)
			continue;
		ret_id[n] = '\0';
		if (!id_is_good(ret_id))
			continue;
		*ret_ns = order[i];
		r = 0;
		break;
	}
	close(fd);
	return r;
}

static char *default_state_dir(const char *id)
{
	const char *base = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char *dir = NULL;

	if (geteuid() == 0)
		return asprintf(&dir, "/var/lib/wormfs/%s", id) < 0 ? NULL : dir;
	if (base && base[0] == '/')	/* a relative one is to be ignored. Source: XDG base directory spec */
		return asprintf(&dir, "%s/wormfs/%s", base, id) < 0 ? NULL : dir;
	if (!home || home[0] != '/') {
		const struct passwd *pw = getpwuid(geteuid());

		home = pw ? pw->pw_dir : "";
	}
	return asprintf(&dir, "%s/.local/state/wormfs/%s", home, id) < 0 ? NULL : dir;
}

struct by_id {
	const char *id;
	struct share *share;
};

static int match_id(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	struct by_id *by = arg;

	if (!share || strcmp(share->id, by->id) != 0)
		return 0;
	by->share = share;
	return 1;
}

static int share_of_lower(struct shares *shares, const char *dir, const char *id, enum lower_namespace ns,
			  struct share **ret_share, struct failure *f)
{
	struct by_id by = { .id = id };
	struct share *share;
	int r;

	for (size_t i = 0; i < shares->count; i++) {
		if (!shares->list[i]->lower_dir || strcmp(shares->list[i]->lower_dir, dir) != 0)
			continue;
		*ret_share = shares->list[i];
		return 0;
	}
	if (shares_each_mount(shares, match_id, &by) == 1) {
		if (!by.share->lower_dir) {
			by.share->lower_dir = strdup(dir);
			by.share->ns = ns;
		}
		*ret_share = by.share;
		return by.share->lower_dir ? 0 : fail(f, -ENOMEM, "out of memory");
	}
	share = calloc(1, sizeof(*share));
	if (!share)
		return fail(f, -ENOMEM, "out of memory");
	share->client_error = 1;
	share->ns = ns;
	share->state_dir_given = shares->ctl->state_dir != NULL;
	share->dir = strdup(dir);
	share->inside = strdup("");
	share->lower_dir = strdup(dir);
	share->id = strdup(id);
	share->state_dir = shares->ctl->state_dir ? strdup(shares->ctl->state_dir) : default_state_dir(id);
	if (!share->dir || !share->inside || !share->lower_dir || !share->id || !share->state_dir) {
		share_free(share);
		return fail(f, -ENOMEM, "out of memory");
	}
	r = shares_add(shares, share);
	if (r < 0)
		return fail(f, r, "out of memory");
	*ret_share = share;
	return 0;
}

/* ---- the path ---- */

/* Cuts the last component off an absolute path; false at the root. */
static bool cut_last(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || !path[1])
		return false;
	slash[slash == path ? 1 : 0] = '\0';
	return true;
}

static int place_make(struct share *share, const char *rest, bool below_mount, struct place *ret_place)
{
	struct place place = { .share = share };

	/* `rest` counts from the mount point, or from the root of the share below it. */
	place.path = path_join(below_mount ? "" : share->inside, rest);
	if (below_mount && *share->inside) {
		const char *shown;

		if (place.path && path_is_below(place.path, share->inside, &shown))
			place.real = path_join(share->dir, shown);
		else
			place.real = path_join(share->lower_dir, rest);
	} else {
		place.real = path_join(share->dir, rest);
	}
	if (!place.path || !place.real) {
		place_fini(&place);
		return -ENOMEM;
	}
	*ret_place = place;
	return 0;
}

static int find_lower(struct shares *shares, const char *shown, const char *real, struct place *ret_place,
		      struct failure *f)
{
	char id[SHARE_ID_MAX_BYTES + 1], *dir = strdup(real);
	enum lower_namespace ns = LOWER_TRUSTED;
	struct share *share = NULL;
	const char *rest;
	int r;

	if (!dir)
		return fail(f, -ENOMEM, "out of memory");
	while (read_share_id(dir, id, &ns) < 0) {
		if (cut_last(dir))
			continue;
		r = fail(f, -ENOENT, "%s is not in a share of wormfs: nothing is mounted over it, and no directory "
			 "above it %s", quoted(shown), geteuid() == 0 ? "ever was" :
			 "was by this user; if root mounted it, ask as root");
		goto out;
	}
	r = share_of_lower(shares, dir, id, ns, &share, f);
	if (r < 0)
		goto out;
	(void)path_is_below(real, dir, &rest);
	r = place_make(share, rest, true, ret_place);
	if (r < 0)
		r = fail(f, r, "out of memory");
out:
	free(dir);
	return r;
}

int shares_find(struct shares *shares, const char *path, bool may_miss, struct place *ret_place, struct failure *f)
{
	const struct mount *m;
	struct share *share = NULL;
	const char *rest;
	char *real;
	int error = 0, r;

	r = real_path(path, &real, &error);
	if (r < 0)
		return fail(f, r, "cannot reach %s: %s", quoted(path), strerror(-r));
	m = mounts_find(&shares->mounts, real);
	/* A daemon that is gone is what to say, rather than what it keeps us from. */
	if (mount_is_worm(m)) {
		r = share_of_mount(shares, m, real, &share, f);
		if (r < 0)
			goto out;
	}
	if (error && !(may_miss && (error == -ENOENT || error == -ENOTDIR))) {
		r = fail(f, error, "cannot reach %s: %s", quoted(path), strerror(-error));
		goto out;
	}
	if (!mount_is_worm(m)) {
		r = find_lower(shares, path, real, ret_place, f);
		goto out;
	}
	(void)path_is_below(real, m->point, &rest);
	r = place_make(share, rest, false, ret_place);
	if (r < 0)
		r = fail(f, r, "out of memory");
out:
	free(real);
	return r;
}

/* ---- what belongs to a share ---- */

int share_client(struct share *share, struct client **ret_client, struct failure *f)
{
	int64_t owner = json_get_int(share->mount, "uid");

	if (!share->client && !share->state_dir)
		return fail(f, -EACCES, "cannot find the control socket of %s: only root or the user who mounted it may",
			    quoted(share->dir));
	if (!share->client && share->client_error)
		share->client_error = client_connect(share->state_dir, &share->client);
	if (share->client_error == 0) {
		*ret_client = share->client;
		return 0;
	}
	if (client_is_absence(share->client_error) && share->mounted)
		return fail(f, share->client_error, "the daemon of %s does not listen in its state directory %s: remount it",
			    quoted(share->dir), quoted(share->state_dir));
	if (client_is_absence(share->client_error))
		return fail(f, share->client_error, "cannot reach the daemon of %s: is it mounted? try: wormfs %s",
			    quoted(share->dir), quoted(share->dir));
	if (share->client_error == -EACCES && owner == 0)
		return fail(f, -EACCES, "only root may ask that of %s: its daemon runs as root", quoted(share->dir));
	if (share->client_error == -EACCES)
		return fail(f, -EACCES, "only root or uid %lld, who mounted it, may ask that of %s", (long long)owner,
			    quoted(share->dir));
	return fail(f, share->client_error, "cannot reach the daemon of %s through %s: %s", quoted(share->dir),
		    quoted(share->state_dir), strerror(-share->client_error));
}

static int64_t monotonic_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* Whether somebody has a lock of flock(2) on the file. Only looks: to take the lock, even for an instant,
 * could keep a daemon from starting. Source of the format: proc(5), /proc/locks. */
static bool is_locked(const struct stat *st)
{
	FILE *in = fopen("/proc/locks", "re");
	unsigned long long inode;
	unsigned major, minor;
	bool found = false;
	char line[256];

	while (in && !found && fgets(line, sizeof(line), in))
		found = sscanf(line, "%*d: FLOCK %*s %*s %*d %x:%x:%llu", &major, &minor, &inode) == 3 &&
			inode == st->st_ino && makedev(major, minor) == st->st_dev;
	if (in)
		fclose(in);
	return found;
}

/* A daemon that was just unmounted has no socket any more and may still be writing the ledger. */
static void wait_for_last_words(const struct share *share)
{
	const struct timespec pause = { .tv_nsec = 20 * 1000000 };
	int64_t deadline_ms = monotonic_ms() + LAST_WORDS_S * 1000;
	char *path = path_join(share->state_dir, "lock");	/* fs/state.c */
	struct stat st;

	if (path && stat(path, &st) == 0)
		while (is_locked(&st) && monotonic_ms() < deadline_ms)
			(void)nanosleep(&pause, NULL);
	free(path);
}

int share_sync(struct share *share, struct failure *f)
{
	struct client *client;
	int r = share_client(share, &client, f);

	if (client_is_absence(r) && !share->mounted) {
		wait_for_last_words(share);
		return 0;
	}
	if (r < 0)
		return r;
	r = client_call(client, json_pack("{s:s}", "verb", "sync"), NULL, NULL, NULL);
	if (r < 0)
		return fail(f, r, "the ledger of %s may lag behind the files: %s", quoted(share->dir),
			    *client_error(client) ? client_error(client) : strerror(-r));
	return 0;
}

/* Opening a database means trusting its directory: SQLite makes files beside it. A mount can be made by any
 * user and names any directory, so root does not follow one into what another user can change. */
static int check_state_dir(const struct share *share, struct failure *f)
{
	struct stat st;

	if (share->state_dir_given)
		return 0;
	if (stat(share->state_dir, &st) < 0)
		return fail(f, -errno, "cannot open the state directory %s: %s%s", quoted(share->state_dir),
			    strerror(errno), errno == ENOENT ? "; if it is elsewhere, name it: --state-dir DIR" : "");
	if ((st.st_uid != 0 && st.st_uid != geteuid()) || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return fail(f, -EPERM, "the state directory %s can be changed by others: run this as uid %u, or trust it: "
			    "--state-dir %s", quoted(share->state_dir), st.st_uid, quoted(share->state_dir));
	return 0;
}

int share_ledger(struct share *share, int flags, struct ledger **ret_ledger, struct failure *f)
{
	const char *dir = share->state_dir;
	int r;

	if (!dir)
		return fail(f, -EACCES, "cannot find the ledger of %s: only root or the user who mounted it may read it",
			    quoted(share->dir));
	r = check_state_dir(share, f);
	if (r < 0)
		return r;
	r = ledger_open(dir, flags, *share->id ? share->id : NULL, ret_ledger);
	switch (r) {
	case 0:
		return 0;
	case -ENOENT:
		return fail(f, r, "there is no ledger in %s: name the right directory with --state-dir DIR, or rebuild it: "
			    "wormctl reindex %s", quoted(dir), quoted(share->dir));
	case -EACCES:
		return fail(f, r, "cannot read the ledger in %s: only root or the user who mounted the share may",
			    quoted(dir));
	case -EXDEV:
		return fail(f, r, "the ledger in %s belongs to another share than %s", quoted(dir), quoted(share->dir));
	case -EBADMSG:
		return fail(f, r, "the ledger in %s is not one that wormfs %s can read: %s", quoted(dir),
			    WORMFS_VERSION, ledger_error(NULL));
	case -EBUSY:
		return fail(f, r, "the ledger in %s is in use by another process", quoted(dir));
	case -EIO:
		return fail(f, r, "the ledger in %s is damaged (%s); the files stay locked; unmount, move it "
			    "away, then: wormctl reindex %s", quoted(dir), ledger_error(NULL), quoted(share->dir));
	}
	return fail(f, r, "cannot open the ledger in %s: %s", quoted(dir),
		    *ledger_error(NULL) ? ledger_error(NULL) : strerror(-r));
}

/* fs/state.c takes the same one. */
int share_keep_daemons_away(const struct share *share, int *ret_fd, struct failure *f)
{
	char *path = path_join(share->state_dir, "lock");
	int fd, r = 0;

	if (!path)
		return fail(f, -ENOMEM, "out of memory");
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		r = fail(f, -errno, "cannot write to the state directory %s: %s", quoted(share->state_dir),
			 strerror(errno));
	} else if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		r = fail(f, -EBUSY, "a daemon, a reindex or a check of limits uses the state directory %s", quoted(share->state_dir));
		close(fd);
	} else {
		*ret_fd = fd;
	}
	free(path);
	return r;
}

char *share_key_path(const struct share *share, const struct wormctl *ctl)
{
	if (ctl->key)
		return strdup(ctl->key);
	return share->state_dir ? path_join(share->state_dir, "key") : NULL;
}

int64_t share_now_s(const struct share *share)
{
	struct retention now;

	if (retention_parse(json_get_text(share->mount, "now"), &now) == 0 && now.kind == RETENTION_DATE)
		return now.seconds;
	return time(NULL);
}
