/* Owns the rules of the mount. Always true:
 *  - without -o rules (has_rules, constant) nobody comes here: no lock, no system call;
 *  - a reload replaces the pointer under policy_lock and nothing else; who uses a policy holds a reference;
 *  - every rule has its number in the ledger before anybody can see it. */
#include "fs/rule.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/descriptor.h"
#include "fs/log.h"
#include "fs/state.h"
#include "fs/trail.h"
#include "lockstore/thread.h"

/* ---- numbers ---- */

static int number_rules(struct wormfs *fs, struct policy *policy)
{
	uint16_t number = 0;
	int r;

	r = ledger_begin(fs->ledger);
	for (size_t i = 0; r == 0 && i < policy_count(policy); i++) {
		r = ledger_rule_number(fs->ledger, policy_at(policy, i)->name, &number);
		if (r == 0)
			policy_set_number(policy, i, number);
	}
	if (r == 0)
		return ledger_commit(fs->ledger);
	ledger_rollback(fs->ledger);
	return r;
}

char *rule_name(struct wormfs *fs, uint16_t number)
{
	const struct policy_rule *rule;
	struct policy *policy;
	char *name = NULL;

	if (number == 0)
		return strdup("mount options");
	policy = rule_policy(fs);
	rule = policy ? policy_by_number(policy, number) : NULL;
	if (rule)
		name = strdup(rule->name);
	policy_put(policy);
	/* Of another gateway, or the ledger was lost: only the number. */
	if (!name && ledger_rule_name(fs->ledger, number, &name) < 0 && asprintf(&name, "#%u", number) < 0)
		return NULL;
	return name;
}

void rule_bounds(struct wormfs *fs, uint16_t number, struct policy_settings *ret_set)
{
	struct policy *policy = number ? rule_policy(fs) : NULL;
	const struct policy_rule *rule = policy ? policy_by_number(policy, number) : NULL;

	*ret_set = rule ? rule->set : fs->mount_rule.set;
	policy_put(policy);
}

bool rule_has_compliance(struct wormfs *fs)
{
	struct policy *policy = rule_policy(fs);
	bool compliance = fs->mount_rule.set.mode == WORM_COMPLIANCE;

	for (size_t i = 0; policy && i < policy_count(policy); i++)
		compliance |= policy_at(policy, i)->set.mode == WORM_COMPLIANCE;
	policy_put(policy);
	return compliance;
}

/* ---- the rule of a file ---- */

struct policy *rule_policy(struct wormfs *fs)
{
	struct policy *policy;

	if (!fs->has_rules)
		return NULL;
	pthread_mutex_lock(&fs->policy_lock);
	policy = policy_get(fs->policy);
	pthread_mutex_unlock(&fs->policy_lock);
	return policy;
}

void rule_keep_locked(struct wormfs *fs, struct inode *ino)
{
	ino->policy = rule_policy(fs);
}

void rule_drop_locked(struct inode *ino)
{
	policy_put(ino->policy);
	ino->policy = NULL;
}

ssize_t rule_attribute(void *arg, const char *name, void *buf, size_t size_bytes)
{
	struct rule_attribute_of *file = arg;
	ssize_t n;
	int fd;

	fd = descriptor_get(file->fs, file->ino);
	if (fd < 0)
		return fd;
	n = lower_getxattr(fd, name, buf, size_bytes);
	descriptor_put(file->fs, file->ino, fd);
	return n;
}

int rule_decide_locked(struct wormfs *fs, struct inode *ino, const struct stat *st, const struct policy_rule **ret_rule)
{
	struct rule_attribute_of lower = { fs, ino };
	struct policy_file file = { .has_size = true, .xattr = rule_attribute, .xattr_arg = &lower };
	char *path = NULL;
	struct stat own;
	int64_t btime_ns;
	int fd, r;

	rule_pin_locked(fs, ino);
	if (!st) {
		fd = descriptor_get(fs, ino);
		r = fd < 0 ? fd : inode_stat(fd, "", &own, &btime_ns);
		descriptor_put(fs, ino, fd);
		if (r < 0)
			return r;
		st = &own;
	}
	r = inode_path(fs, ino, &path);
	if (r < 0 && r != -ENOENT)	/* found by an NFS handle, never by a name: no path */
		return r;
	file.path = path;
	file.size_bytes = st->st_size;
	file.uid = st->st_uid;
	file.gid = st->st_gid;
	r = policy_match(ino->policy, &file, ret_rule);
	free(path);
	return r;
}

const struct policy_rule *rule_or_mount_locked(struct wormfs *fs, struct inode *ino, const struct stat *st)
{
	const struct policy_rule *rule;

	return rule_of_locked(fs, ino, st, &rule) < 0 ? &fs->mount_rule : rule;
}

/* ---- the file ---- */

/* A rule in compliance mode is a promise that a clock which can be moved would break; one that pushes needs a cluster. */
static int check_policy(struct wormfs *fs, struct policy *policy, struct ini_error *ret_error)
{
	for (size_t i = 0; !fs->opt.push && i < policy_count(policy); i++) {
		const struct policy_rule *rule = policy_at(policy, i);

		if (!rule->set.push)
			continue;
		ret_error->line = rule->line;
		snprintf(ret_error->text, sizeof(ret_error->text), "%s:%u: rule '%s': push = yes, and the mount has no cluster to push to (-o push=qumulo:HOST)",
			 fs->rules_path, rule->line, rule->name);
		return -EINVAL;
	}
	if (!fs->opt.clock || strcmp(fs->opt.clock, "own") == 0)
		return 0;
	for (size_t i = 0; i < policy_count(policy); i++) {
		const struct policy_rule *rule = policy_at(policy, i);

		if (rule->set.mode != WORM_COMPLIANCE)
			continue;
		ret_error->line = rule->line;
		snprintf(ret_error->text, sizeof(ret_error->text), "%s:%u: rule '%s': mode = compliance cannot be used with clock=%.40s, which "
			 "can be moved", fs->rules_path, rule->line, rule->name, fs->opt.clock);
		return -EINVAL;
	}
	return 0;
}

static int read_rules(struct wormfs *fs, struct policy **ret_policy, struct ini_error *ret_error)
{
	struct policy *policy;
	int r;

	r = policy_open(fs->rules_path, POLICY_TRUSTED, &fs->mount_rule.set, &policy, ret_error);
	if (r < 0)
		return r;
	r = check_policy(fs, policy, ret_error);
	if (r < 0)
		policy_put(policy);
	else
		*ret_policy = policy;
	return r;
}

static void mount_rule_init(struct wormfs *fs)
{
	const struct options *opt = &fs->opt;
	const unsigned given = (opt->has_retention ? 1u << POLICY_RETENTION : 0) | (opt->has_min ? 1u << POLICY_MIN : 0) |
			       (opt->has_max ? 1u << POLICY_MAX : 0);

	fs->mount_rule.name = "";
	fs->mount_rule.set = (struct policy_settings){
		.given = given, .commit = opt->commit, .idle_s = opt->idle_s, .retention = opt->retention, .min = opt->min,
		.max = opt->max, .has_max = opt->has_max, .mode = opt->mode, .digest = opt->digest, .settle_s = opt->settle_s,
		.staging_globs = opt->staging, .staging = fs->staging,
		.holds = opt->hold, .nholds = opt->hold ? 1 : 0, .push = opt->push ? POLICY_PUSH_YES : NULL,
	};
}

/* Absolute, since the daemon leaves the directory it was started in; links stay, they may be changed for a reload. */
static int make_absolute(const char *path, char **ret_path)
{
	char *cwd;
	int n;

	if (*path == '/') {
		*ret_path = strdup(path);
		return *ret_path ? 0 : -ENOMEM;
	}
	cwd = getcwd(NULL, 0);
	n = cwd ? asprintf(ret_path, "%s/%s", cwd, path) : -1;
	free(cwd);
	return n < 0 ? -ENOMEM : 0;
}

bool rule_lies_in_share(struct wormfs *fs, const char *path)
{
	char *real = realpath(path, NULL);
	size_t n = strlen(fs->share), m = strlen(fs->mountpoint);
	bool below = real && ((strncmp(real, fs->share, n) == 0 && real[n] == '/') ||
			      (strncmp(real, fs->mountpoint, m) == 0 && real[m] == '/'));

	free(real);
	return below;
}

int rule_open(struct wormfs *fs)
{
	struct ini_error error;
	int r;

	pthread_mutex_init(&fs->policy_lock, NULL);
	pthread_mutex_init(&fs->reload_lock, NULL);
	mount_rule_init(fs);
	if (!fs->opt.rules)
		return 0;
	r = make_absolute(fs->opt.rules, &fs->rules_path);
	if (r < 0)
		return r;
	if (rule_lies_in_share(fs, fs->rules_path)) {
		complain("the rules '%s' lie in the share: who writes there would make them; put the file elsewhere", fs->rules_path);
		return -EINVAL;
	}
	r = read_rules(fs, &fs->policy, &error);
	if (r < 0)
		complain("cannot use the rules: %s", error.text);
	fs->has_rules = r == 0;
	return r;
}

static void *hup_thread(void *arg)
{
	struct wormfs *fs = arg;
	struct ini_error error;
	sigset_t hup;
	size_t count;
	int signo;

	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	while (sigwait(&hup, &signo) == 0 && !atomic_load(&fs->rule_stopping))
		(void)rule_reload(fs, &error, &count);	/* it has logged what came of it */
	return NULL;
}

int rule_start(struct wormfs *fs)
{
	int r;

	if (!fs->has_rules)
		return 0;
	r = number_rules(fs, fs->policy);
	if (r < 0) {
		complain("cannot number the rules in the ledger: %s", ledger_error(fs->ledger));
		return r;
	}
	log_info("%zu rules from '%s'", policy_count(fs->policy), fs->rules_path);
	r = thread_start(&fs->hup_thread, "rules-hup", hup_thread, fs);
	fs->hup_running = r == 0;
	return r;
}

int rule_reload(struct wormfs *fs, struct ini_error *ret_error, size_t *ret_count)
{
	struct policy *new, *old;
	int r;

	if (!fs->has_rules) {
		snprintf(ret_error->text, sizeof(ret_error->text), "this mount has no rules file: mount it with -o rules=FILE");
		return -EOPNOTSUPP;
	}
	pthread_mutex_lock(&fs->reload_lock);	/* one after the other, the last file wins */
	r = read_rules(fs, &new, ret_error);
	if (r == 0) {
		r = number_rules(fs, new);
		if (r < 0) {
			policy_put(new);
			snprintf(ret_error->text, sizeof(ret_error->text), "the rules cannot be numbered in the ledger: %.200s", ledger_error(fs->ledger));
		}
	}
	if (r < 0) {
		pthread_mutex_unlock(&fs->reload_lock);
		trail_note(fs, AUDIT_POLICY_CHANGE, r, "refused, the old rules stay in force: %.300s", ret_error->text);
		log_warning("the rules were not reloaded, the old ones stay in force: %s", ret_error->text);
		return r;
	}
	*ret_count = policy_count(new);
	pthread_mutex_lock(&fs->policy_lock);
	old = fs->policy;
	fs->policy = new;
	pthread_mutex_unlock(&fs->policy_lock);
	policy_put(old);
	pthread_mutex_unlock(&fs->reload_lock);
	trail_note(fs, AUDIT_POLICY_CHANGE, 0, "%zu rules from %.300s", *ret_count, fs->rules_path);
	log_info("%zu rules reloaded from '%s'; files that are open keep what they had, %u of them now", *ret_count, fs->rules_path,
		 atomic_load(&fs->n_writers));
	return 0;
}

void rule_stop(struct wormfs *fs)
{
	if (!fs->hup_running)
		return;
	atomic_store(&fs->rule_stopping, true);
	pthread_kill(fs->hup_thread, SIGHUP);
	pthread_join(fs->hup_thread, NULL);
	fs->hup_running = false;
}

void rule_close(struct wormfs *fs)
{
	policy_put(fs->policy);
	fs->policy = NULL;
	free(fs->rules_path);
	fs->rules_path = NULL;
}
