#include "lockstore/wormctl/one_share.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lockstore/wormctl/output.h"

static int take_first(void *arg, const char *mount_point, struct share *share, const struct failure *f)
{
	struct one_share *one = arg;

	if (!share)
		return 0;	/* one that does not answer is not the one that is asked */
	if (one->share)
		return -EEXIST;
	one->share = share;
	return 0;
}

static int find_place(struct one_share *one, const char *path, struct failure *f)
{
	struct place place;
	int r;

	r = shares_find(one->shares, path, true, &place, f);
	if (r < 0)
		return r;
	one->share = place.share;
	if (*place.path)
		one->path = strdup(place.path);
	place_fini(&place);
	return 0;
}

/* What its daemon says of itself, when one runs: share_now_s() reads it. */
static void ask_mount(struct share *share)
{
	struct client *client;
	struct failure nobody;
	json_t *answer = NULL;

	if (share_client(share, &client, &nobody) == 0 &&
	    client_call(client, json_pack("{s:s}", "verb", "mount"), NULL, NULL, &answer) == 0)
		share->mount = json_incref(json_object_get(answer, "mount"));
	json_decref(answer);
}

int one_share_find(struct one_share *one, const struct wormctl *ctl, const char *path, struct failure *f)
{
	char *here;
	int r;

	memset(one, 0, sizeof(*one));
	r = shares_open(ctl, &one->shares);
	if (r < 0)
		return fail(f, r, "%s", strerror(-r));
	if (path)
		return find_place(one, path, f);
	if (ctl->state_dir) {
		one->given = (struct share){ .dir = (char *)ctl->state_dir, .inside = (char *)"", .id = (char *)"", .client_error = 1,
					     .state_dir = (char *)ctl->state_dir, .state_dir_given = true };
		one->share = &one->given;
		ask_mount(&one->given);
		return 0;
	}
	here = getcwd(NULL, 0);
	r = here ? find_place(one, here, f) : -ENOENT;
	free(here);
	free(one->path);
	one->path = NULL;	/* the whole share */
	if (r == 0)
		return 0;
	r = shares_each_mount(one->shares, take_first, one);
	if (r == -EEXIST)
		return fail(f, r, "several shares are mounted: name one, or a file in it");
	if (!one->share)
		return fail(f, -ENOENT, "nothing is mounted: name a share, or its state directory with --state-dir DIR");
	return 0;
}

void one_share_fini(struct one_share *one)
{
	shares_close(one->shares);
	client_close(one->given.client);
	json_decref(one->given.mount);
	free(one->path);
}
