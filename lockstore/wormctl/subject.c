/* Owns what it opened; the share belongs to struct shares, but for one that only --state-dir names, which is ours. */
#include "lockstore/wormctl/subject.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lockstore/control.h"

struct choice {
	struct share *share;
	unsigned n;
};

static int count_mount(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	struct choice *choice = arg;

	choice->share = share;
	choice->n++;
	return 0;
}

static int find_default(const struct wormctl *ctl, struct shares *shares, struct subject *s, struct failure *f)
{
	struct choice choice = { 0 };
	char *here = getcwd(NULL, 0);
	struct place place;
	int r = 0;

	if (here && shares_find(shares, here, false, &place, f) == 0) {
		s->share = place.share;
		s->path = strdup(place.share->inside);
		place_fini(&place);
		goto out;
	}
	(void)shares_each_mount(shares, count_mount, &choice);
	if (choice.n == 1 && choice.share) {
		s->share = choice.share;
		s->path = strdup(choice.share->inside);
	} else {
		r = fail(f, -ENOENT, choice.n ? "which share? %u are mounted: name it" :
			 "which share? nothing is mounted: name it (or its state directory: --state-dir DIR)", choice.n);
	}
out:
	free(here);
	return r < 0 ? r : s->path ? 0 : fail(f, -ENOMEM, "out of memory");
}

static int open_key(const struct wormctl *ctl, struct subject *s, struct failure *f)
{
	const char *of_mount = json_get_text(s->share->mount, "key");	/* -o key=FILE */
	char *path = !ctl->key && of_mount[0] == '/' ? strdup(of_mount) : share_key_path(s->share, ctl);
	int r;

	if (!path)
		return fail(f, -ENOMEM, "out of memory");
	r = record_key_open(path, false, &s->key);
	if (r == -ENOENT)
		fail(f, r, "there is no key at %s, and no record can be verified without it: get it back from the backup, "
		     "or name it with --key FILE", quoted(path));
	else if (r < 0)
		fail(f, r, "cannot use the key %s: %s", quoted(path),
		     r == -EPERM ? "others may read it; run: chmod 600" : r == -EBADMSG ? "it is not 32 bytes long" : strerror(-r));
	free(path);
	return r;
}

static int open_root_online(struct subject *s, struct client *client, struct failure *f)
{
	const json_t *lower = json_object_get(s->share->mount, "lower");
	int r = client_call(client, json_pack("{s:s}", "verb", "lower"), NULL, NULL, NULL);

	if (r < 0)
		return fail(f, r, "cannot look below the mount %s: %s", quoted(s->share->dir),
			    *client_error(client) ? client_error(client) : strerror(-r));
	s->root_fd = client_take_fd(client);
	if (s->root_fd < 0)
		return fail(f, -EPROTO, "the daemon of %s does not show what is below the mount", quoted(s->share->dir));
	s->ns = strcmp(json_get_text(lower, "namespace"), "user") == 0 ? LOWER_USER : LOWER_TRUSTED;
	s->has_records = json_get_bool(lower, "xattr");
	return 0;
}

static int open_root_offline(struct subject *s, struct failure *f)
{
	s->root_fd = s->share->lower_dir ? open(s->share->lower_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (s->root_fd < 0 && !s->share->lower_dir)
		return fail(f, -ENOENT, "which share does %s belong to? name it: PATH", quoted(s->share->state_dir));
	if (s->root_fd < 0)
		return fail(f, -errno, "cannot open %s: %s", quoted(s->share->lower_dir), strerror(errno));
	s->ns = s->share->ns;
	s->has_records = true;	/* its id, which made it a share, is in one */
	return 0;
}

int subject_open(const struct wormctl *ctl, struct shares *shares, const char *path, enum subject_parts parts,
		 struct subject *ret, struct failure *f)
{
	struct client *client;
	struct failure lag;
	struct place place;
	int r;

	*ret = (struct subject){ .root_fd = -1 };
	pthread_mutex_init(&ret->client_lock, NULL);
	if (path) {
		r = shares_find(shares, path, true, &place, f);
		if (r == 0) {
			ret->share = place.share;
			ret->path = strdup(place.path);
			place_fini(&place);
			r = ret->path ? 0 : fail(f, -ENOMEM, "out of memory");
		}
	} else {
		r = find_default(ctl, shares, ret, f);
	}
	if (r < 0)
		return r;
	r = share_ledger(ret->share, LEDGER_READONLY, &ret->ledger, f);
	if (r < 0)
		return r;
	if (share_sync(ret->share, &lag) < 0)
		complain("%s", lag.text);	/* what the ledger has is looked at all the same */
	ret->now_s = share_now_s(ret->share);
	r = share_client(ret->share, &client, f);
	ret->online = r == 0;
	if (r < 0 && parts != SUBJECT_LEDGER && (ret->share->mounted || !client_is_absence(r)))
		return r;
	if (parts == SUBJECT_LEDGER)
		return 0;
	r = ret->online ? open_root_online(ret, client, f) : open_root_offline(ret, f);
	if (r < 0 || !ret->has_records || parts == SUBJECT_DATA)
		return r;
	return open_key(ctl, ret, f);
}

void subject_close(struct subject *s)
{
	ledger_close(s->ledger);
	record_key_close(s->key);
	if (s->root_fd >= 0)
		close(s->root_fd);
	free(s->path);
	pthread_mutex_destroy(&s->client_lock);
}

int subject_sync(struct subject *s)
{
	struct client *client;
	struct failure f;
	int r;

	if (!s->online)
		return 0;
	pthread_mutex_lock(&s->client_lock);
	r = share_client(s->share, &client, &f);
	if (r == 0)
		r = client_call(client, json_pack("{s:s,s:b}", "verb", "sync", "closing", 0), NULL, NULL, NULL);
	pthread_mutex_unlock(&s->client_lock);
	return r;
}

char *subject_state(struct subject *s, const char *path)
{
	json_t *answer = NULL;
	struct client *client;
	char *encoded, *state = NULL;
	struct failure f;

	if (!s->online || control_path_encode(path, &encoded) < 0)
		return strdup("");
	pthread_mutex_lock(&s->client_lock);
	if (share_client(s->share, &client, &f) == 0 &&
	    client_call(client, json_pack("{s:s,s:s}", "verb", "explain", "path", encoded), NULL, NULL, &answer) == 0)
		state = strdup(json_get_text(json_object_get(answer, "file"), "state"));
	pthread_mutex_unlock(&s->client_lock);
	json_decref(answer);
	free(encoded);
	return state ? state : strdup("");
}

int subject_open_row(const struct subject *s, const char *path, const struct file_key *key, int *ret_fd)
{
	struct file_key found;
	int fd, r;

	*ret_fd = -1;
	fd = lower_open(s->root_fd, path, O_PATH, true);
	if (fd == -ENOTDIR || fd == -ELOOP)
		return -ENOENT;
	if (fd < 0)
		return fd;
	r = lower_file_key(fd, "", &found);
	if (r < 0) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return file_key_equal(&found, key) ? 0 : -ESTALE;
}

bool subject_is_elsewhere(const struct subject *s, const struct file_key *key)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u;
	int32_t type;
	struct stat st;
	int fd;

	if (!file_key_is_handle(key) || key->len > sizeof(type) + MAX_HANDLE_SZ)
		return false;
	memcpy(&type, key->bytes, sizeof(type));
	u.handle.handle_type = type;
	u.handle.handle_bytes = key->len - (unsigned)sizeof(type);
	memcpy(u.handle.f_handle, key->bytes + sizeof(type), u.handle.handle_bytes);
	fd = open_by_handle_at(s->root_fd, &u.handle, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return false;
	type = fstat(fd, &st) == 0 && st.st_nlink > 0;
	close(fd);
	return type;
}

const char *subject_name(const struct subject *s)
{
	return s->share->dir;
}
