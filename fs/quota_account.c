/* What is used of the limits, from one mount to the next. The ledger's mark says "clean" only between the end of a daemon that wrote
 * all of it and the start of the next one, with or without -o quota: whoever finds it taken away counts the files. A thread writes
 * what has changed every few seconds, for who asks the ledger after a kill; requests never wait for it. */
#include "fs/quota_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/rule.h"
#include "fs/state.h"
#include "lockstore/ledger_limits.h"
#include "lockstore/limit_count.h"
#include "lockstore/limit_json.h"
#include "lockstore/monotonic_cond.h"
#include "lockstore/thread.h"

#define WRITE_PERIOD_S 5
#define KICKED_MS 200		/* a crossing is kept so soon: a kill shall not begin grace again */
#define PAGE_BYTES 40000	/* of sections: with one more an answer fits CONTROL_LINE_MAX */

struct quota_account {
	struct ledger_limit *rows;	/* one a section; its thread's, then the closer's */
	uint64_t *written;		/* usage.changes when the row was written */
	bool failing;
	pthread_mutex_t lock;		/* the rest; a leaf */
	pthread_cond_t work;
	bool kicked, stopping, running;
	pthread_t thread;
};

/* ---- writing ---- */

static int write_rows(struct wormfs *fs, bool all, bool clean)
{
	struct quota_account *account = fs->limits->account;
	size_t n = limits_count(fs->limits->limits), changed = 0;
	struct ledger_limit *rows = account->rows;
	int r;

	for (size_t i = 0; i < n; i++) {
		struct ledger_limit row = { .section = *limits_at(fs->limits->limits, i) };

		limits_usage(fs->limits->limits, i, &row.usage);
		if (!all && row.usage.changes == account->written[i])
			continue;
		account->written[i] = row.usage.changes;
		rows[changed++] = row;
	}
	if (changed == 0 && !all)
		return 0;
	r = ledger_limits_write(fs->ledger, rows, changed, all, clean);
	if (r < 0)
		memset(account->written, 0xff, n * sizeof(*account->written));	/* all of them, next time */
	return r;
}

static void wait_locked(struct quota_account *account, unsigned ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += ms % 1000 * 1000000L;
	if (until.tv_nsec >= 1000000000L) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	while (!account->stopping && !(account->kicked && ms > KICKED_MS) &&
	       pthread_cond_timedwait(&account->work, &account->lock, &until) != ETIMEDOUT)
		;
}

static void *run(void *arg)
{
	struct wormfs *fs = arg;
	struct quota_account *account = fs->limits->account;

	pthread_mutex_lock(&account->lock);
	while (!account->stopping) {
		wait_locked(account, WRITE_PERIOD_S * 1000);
		if (account->kicked)
			wait_locked(account, KICKED_MS);
		account->kicked = false;
		if (account->stopping)
			break;
		pthread_mutex_unlock(&account->lock);
		if (write_rows(fs, false, false) == 0) {
			account->failing = false;
		} else if (!account->failing) {
			account->failing = true;
			log_warning("cannot keep what is used of the limits: %s, retrying in %d s", ledger_error(fs->ledger), WRITE_PERIOD_S);
		}
		pthread_mutex_lock(&account->lock);
	}
	pthread_mutex_unlock(&account->lock);
	return NULL;
}

void quota_account_kick(struct wormfs *fs)
{
	struct quota_account *account = fs->limits->account;

	pthread_mutex_lock(&account->lock);
	if (!account->kicked)
		pthread_cond_signal(&account->work);
	account->kicked = true;
	pthread_mutex_unlock(&account->lock);
}

/* ---- life ---- */

int quota_limit_read(struct wormfs *fs)
{
	struct ini_error error;
	int r;

	if (!fs->opt.quota)
		return 0;
	if (fs->tier) {		/* its own requests (recall, release, delete) would go past them */
		complain("quota=%s: mockarchive has no limits of this kind; --set cache.size=BYTES limits its disk", fs->opt.quota);
		return -EINVAL;
	}
	if (rule_lies_in_share(fs, fs->opt.quota)) {
		complain("the limits '%s' lie in the share: who writes there would make them; put the file elsewhere", fs->opt.quota);
		return -EINVAL;
	}
	fs->limits = calloc(1, sizeof(*fs->limits));
	if (!fs->limits)
		return -ENOMEM;
	r = limits_open(fs->opt.quota, &fs->limits->limits, &error);
	if (r < 0)
		complain("cannot use the limits: %s", error.text);
	return r;
}

static int refuse_section(struct wormfs *fs, const struct limit_section *section, int r, const char *why)
{
	complain("cannot use the limits: %s:%u: [%.200s]: %s", fs->opt.quota, section->line, section->key, why);
	return r;
}

/* Directories must be there, and rules; these get the numbers that records have. */
static int resolve(struct wormfs *fs, size_t i)
{
	const struct limit_section *section = limits_at(fs->limits->limits, i);
	const struct policy_rule *rule;
	struct policy *policy;
	int fd, r = 0;

	if (section->kind == LIMIT_DIRECTORY) {
		fd = lower_open(fs->root_fd, *section->name ? section->name : ".", O_PATH | O_DIRECTORY, false);
		if (fd >= 0)
			close(fd);
		return fd >= 0 ? 0 : refuse_section(fs, section, fd, fd == -EXDEV ? "it is on another filesystem than the share, and not counted" :
						    fd == -ENOENT ? "it is not in the share: make it first" : strerror(-fd));
	}
	if (section->kind == LIMIT_USER)
		return 0;
	if (!fs->lower.xattr)
		return refuse_section(fs, section, -EOPNOTSUPP, "limits of rules need a share with xattrs");
	policy = rule_policy(fs);
	rule = policy && *section->name ? policy_find(policy, section->name) : NULL;
	if (rule)
		limits_set_id(fs->limits->limits, i, rule->number);
	else
		r = refuse_section(fs, section, -EINVAL, policy ? "there is no such rule" : "there are no rules (-o rules=FILE)");
	policy_put(policy);
	return r;
}

static int find_row(const struct ledger_limit *rows, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(rows[i].section.key, key) == 0)
			return i;
	return -1;
}

/* The numbers of the rows where they can be trusted, else of the files. Grace goes on in both cases. */
static int take_usage(struct wormfs *fs, const struct ledger_limit *rows, size_t nrows, bool trusted)
{
	struct limits *limits = fs->limits->limits;
	size_t n = limits_count(limits);
	struct limit_count count = { .used = calloc(n, sizeof(*count.used)) };
	int64_t now_s = clock_source_now_s(fs->clock);
	int r = count.used ? 0 : -ENOMEM;

	if (r == 0 && !trusted) {
		log_info("quota: counting what is there, since %s", nrows ? "it is not known whether the ledger has all of it" : "nobody has yet");
		r = limit_count(limits, fs->root_fd, fs->ns, fs->key, &count);
		if (r == 0 && count.unreadable)
			log_warning("quota: %llu directories or files could not be counted, such as '%s': %s", (unsigned long long)count.unreadable,
				    count.first_unreadable ? count.first_unreadable : "", strerror(-count.error));
		if (r == 0)
			log_info("quota: counted %llu files", (unsigned long long)count.files);
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		int at = find_row(rows, nrows, limits_at(limits, i)->key);
		struct limit_usage usage = { 0 };

		if (at >= 0)
			usage = rows[at].usage;
		if (!trusted)
			memcpy(usage.used, count.used[i], sizeof(usage.used));
		limits_set_usage(limits, i, &usage, now_s);
	}
	free(count.first_unreadable);
	free(count.used);
	return r;
}

static int open_account(struct wormfs *fs)
{
	size_t n = limits_count(fs->limits->limits);
	struct quota_account *account = calloc(1, sizeof(*account));

	if (!account)
		return -ENOMEM;
	pthread_mutex_init(&account->lock, NULL);
	monotonic_cond_init(&account->work);
	fs->limits->account = account;
	account->rows = calloc(n, sizeof(*account->rows));
	account->written = calloc(n, sizeof(*account->written));
	return account->rows && account->written ? 0 : -ENOMEM;
}

/* Without limits nobody counts: what was kept is not to be trusted any more. */
static int forget_clean(struct wormfs *fs)
{
	bool clean;
	int r = ledger_limits_is_clean(fs->ledger, &clean);

	if (r == 0 && clean)
		r = ledger_meta_set(fs->ledger, LEDGER_LIMITS_CLEAN, "0");
	if (r < 0)
		complain("cannot look after the limits in the ledger: %s", ledger_error(fs->ledger));
	return r;
}

int quota_limit_open(struct wormfs *fs)
{
	struct ledger_limit *rows = NULL;
	struct limits *limits;
	size_t nrows = 0;
	bool clean;
	int r = 0;

	if (!fs->limits)
		return forget_clean(fs);
	limits = fs->limits->limits;
	for (size_t i = 0; r == 0 && i < limits_count(limits); i++)
		r = resolve(fs, i);
	if (r < 0)
		return r;
	r = open_account(fs);
	if (r == 0)
		r = ledger_limits_is_clean(fs->ledger, &clean);
	if (r == 0)
		r = ledger_limits_read(fs->ledger, &rows, &nrows);
	for (size_t i = 0; r == 0 && i < limits_count(limits); i++)
		clean = clean && find_row(rows, nrows, limits_at(limits, i)->key) >= 0;
	if (r == 0)
		r = take_usage(fs, rows, nrows, clean);
	ledger_limits_free(rows, nrows);
	if (r == 0)
		r = write_rows(fs, true, false);
	if (r < 0) {
		complain("cannot begin with the limits: %s", *ledger_error(fs->ledger) ? ledger_error(fs->ledger) : strerror(-r));
		return r;
	}
	log_info("quota: %zu limits from '%s'; files that are not locked get no kernel passthrough", limits_count(limits), fs->opt.quota);
	r = thread_start(&fs->limits->account->thread, "limits", run, fs);
	fs->limits->account->running = r == 0;
	return r;
}

static void close_account(struct wormfs *fs, bool clean)
{
	struct quota_account *account = fs->limits->account;

	if (!account)
		return;
	if (account->running) {
		pthread_mutex_lock(&account->lock);
		account->stopping = true;
		pthread_cond_signal(&account->work);
		pthread_mutex_unlock(&account->lock);
		pthread_join(account->thread, NULL);
		clean = clean && !atomic_load(&fs->limits->recount) && !limits_are_adrift(fs->limits->limits);
		if (write_rows(fs, true, clean) < 0)
			log_warning("cannot keep what is used of the limits: %s, the next mount counts anew", ledger_error(fs->ledger));
	}
	free(account->rows);
	free(account->written);
	pthread_cond_destroy(&account->work);
	pthread_mutex_destroy(&account->lock);
	free(account);
}

void quota_limit_close(struct wormfs *fs, bool clean)
{
	if (!fs->limits)
		return;
	close_account(fs, clean);
	limits_close(fs->limits->limits);
	free(fs->limits);
	fs->limits = NULL;
}

/* ---- what is shown ---- */

json_t *quota_limit_list(struct wormfs *fs, uint64_t from)
{
	int64_t now_s = clock_source_now_s(fs->clock);
	json_t *list = json_array();
	size_t bytes = 0, n, i;

	if (!fs->limits)
		return json_pack("{s:b, s:n, s:o, s:n}", "ok", 1, "file", "sections", list, "next");
	n = limits_count(fs->limits->limits);
	for (i = from < n ? from : n; i < n && bytes < PAGE_BYTES; i++) {
		struct limit_usage usage;
		json_t *section;

		limits_usage(fs->limits->limits, i, &usage);
		section = limit_json(limits_at(fs->limits->limits, i), &usage, now_s);
		bytes += json_dumpb(section, NULL, 0, JSON_COMPACT);	/* only its length */
		json_array_append_new(list, section);
	}
	return json_pack("{s:b, s:s, s:o, s:o}", "ok", 1, "file", fs->opt.quota, "sections", list, "next", i < n ? json_integer(i) : json_null());
}

json_t *quota_limit_json(struct wormfs *fs)
{
	int64_t now_s = clock_source_now_s(fs->clock), until_s;
	json_int_t soft = 0, over = 0;
	size_t n;

	if (!fs->limits)
		return NULL;
	n = limits_count(fs->limits->limits);
	for (size_t i = 0; i < n; i++) {
		struct limit_usage usage;
		const char *state;

		limits_usage(fs->limits->limits, i, &usage);
		state = limit_state(limits_at(fs->limits->limits, i), &usage, now_s, &until_s);
		soft += strcmp(state, "soft") == 0;
		over += strcmp(state, "over") == 0;
	}
	return json_pack("{s:s, s:I, s:I, s:I, s:I, s:b}", "file", fs->opt.quota, "sections", (json_int_t)n, "soft", soft, "over", over, "refused",
			 (json_int_t)atomic_load(&fs->limits->n_refused), "recount", atomic_load(&fs->limits->recount) || limits_are_adrift(fs->limits->limits));
}
