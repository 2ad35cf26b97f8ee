/* hold list and hold show: from the ledger, also with nothing mounted. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/ledger_orders.h"
#include "lockstore/retention.h"
#include "lockstore/wormctl/hold.h"
#include "lockstore/wormctl/output.h"
#include "lockstore/wormctl/share.h"

struct show {
	struct wormctl *ctl;
	struct ledger *ledger;
	bool detailed;		/* show, not list */
	json_t *orders;		/* of the case at hand */
	uint64_t found;
};

static const char *state_name(const struct hold_order *order)
{
	switch (order->state) {
	case ORDER_PLACING: return "being placed";
	case ORDER_RELEASING: return "being released";
	case ORDER_PLACED: return "placed";
	default: return "";
	}
}

static int add_path(void *arg, const char *path, bool tree)
{
	json_t *row = json_object();

	if (!tree) {	/* file by file only while it is worked on, and may be a million */
		json_decref(row);
		return 0;
	}
	if (!row || json_set_path(row, path) < 0) {
		json_decref(row);
		return -ENOMEM;
	}
	return json_array_append_new(arg, row);
}

static int add_order(void *arg, const struct hold_order *order)
{
	struct show *show = arg;
	char at[RETENTION_TEXT_BYTES];
	json_t *trees = json_array();
	int r;

	if (order->state == ORDER_LISTED) {
		json_decref(trees);
		return 0;
	}
	r = ledger_order_paths(show->ledger, order->id, add_path, trees);
	if (r < 0) {
		json_decref(trees);
		return r;
	}
	retention_format_until(order->at_s, at);
	return json_array_append_new(show->orders, json_pack("{s:I,s:s,s:b,s:I,s:s,s:o,s:I,s:I,s:o}", "order", (json_int_t)order->id,
							      "state", state_name(order), "future", order->future, "by",
							      (json_int_t)order->by, "at", at, "reason", json_text(order->reason),
							      "files", (json_int_t)order->files, "bytes", (json_int_t)order->bytes,
							      "trees", trees)) < 0 ? -ENOMEM : 0;
}

static void print_orders(const json_t *orders)
{
	const json_t *order, *tree;
	size_t i, k;

	json_array_foreach(orders, i, order) {
		printf("  %s %s by uid %lld, %lld files, %lld bytes", json_get_text(order, "at"), json_get_text(order, "state"),
		       (long long)json_get_int(order, "by"), (long long)json_get_int(order, "files"),
		       (long long)json_get_int(order, "bytes"));
		if (*json_get_text(order, "reason")) {
			fputs(": ", stdout);
			print_name(stdout, json_get_text(order, "reason"));
		}
		putchar('\n');
		json_array_foreach(json_object_get(order, "trees"), k, tree) {
			printf("    %s ", json_get_bool(order, "future") ? "all below, and what comes:" : "all below:");
			print_name(stdout, *json_get_text(tree, "path") ? json_get_text(tree, "path") : "(the whole share)");
			putchar('\n');
		}
	}
}

static int on_case(void *arg, const struct hold_case *c)
{
	char first[RETENTION_TEXT_BYTES], last[RETENTION_TEXT_BYTES];
	struct show *show = arg;
	bool future = false;
	json_t *order;
	size_t i;
	int r;

	show->orders = json_array();
	r = ledger_orders(show->ledger, c->name, add_order, show);
	if (r < 0 || (!c->files && !json_array_size(show->orders)))
		goto out;
	show->found++;
	retention_format_until(c->first_s, first);
	retention_format_until(c->last_s, last);
	json_array_foreach(show->orders, i, order)
		future |= json_get_bool(order, "future");
	if (show->ctl->json) {
		r = print_json(json_pack("{s:s,s:I,s:I,s:o,s:o,s:b,s:O}", "case", c->name, "files", (json_int_t)c->files, "bytes",
					 (json_int_t)c->bytes, "first", c->files ? json_string(first) : json_null(), "last",
					 c->files ? json_string(last) : json_null(), "future", future, "orders", show->orders));
		goto out;
	}
	if (!show->detailed) {
		printf("%10llu %14llu  %-20s %s ", (unsigned long long)c->files, (unsigned long long)c->bytes, c->files ? first : "-",
		       future ? "future" : "      ");
		print_name(stdout, c->name);
		putchar('\n');
		goto out;
	}
	print_name(stdout, c->name);
	printf("\n  files      %llu\n  bytes      %llu\n  since      %s\n  future     %s\n", (unsigned long long)c->files,
	       (unsigned long long)c->bytes, c->files ? first : "-", future ? "yes" : "no");
	print_orders(show->orders);
out:
	json_decref(show->orders);
	return r;
}

static int show_share(struct show *show, struct share *share, const char *name)
{
	struct failure f;
	int r;

	r = share_ledger(share, LEDGER_READONLY, &show->ledger, &f);
	if (r < 0) {
		complain("%s", f.text);
		return r;
	}
	if (share_sync(share, &f) < 0)
		complain("%s", f.text);		/* and what the ledger has is shown all the same */
	if (!show->detailed && !show->ctl->json)
		printf("%10s %14s  %-20s %-6s %s\n", "FILES", "BYTES", "SINCE", "FUTURE", "CASE");
	r = ledger_cases(show->ledger, name, on_case, show);
	if (r < 0)
		complain("cannot read the ledger of %s: %s", quoted(share->dir), ledger_error(show->ledger));
	ledger_close(show->ledger);
	return r;
}

int run_hold_show(struct wormctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { COMMON_OPTIONS, { 0 } };
	struct show show = { .ctl = ctl, .detailed = strcmp(argv[0], "show") == 0 };
	struct share given = { 0 };
	struct shares *shares;
	const char *name = NULL;
	struct place place;
	struct failure f;
	int c, r;

	optind = 0;	/* glibc: begin anew, behind the word */
	while ((c = getopt_long(argc, argv, ":h", options, NULL)) != -1) {
		r = common_option(ctl, &command_hold, c, argv);
		if (r >= 0)
			return r;
	}
	argc -= optind;
	argv += optind;
	if (show.detailed) {
		if (!argc)
			return wrong_usage(&command_hold, "which hold? CASE is missing");
		name = *argv++;
		argc--;
	}
	if (argc > 1)
		return wrong_usage(&command_hold, "one path says which share: there are %d", argc);
	r = shares_open(ctl, &shares);
	if (r < 0) {
		complain("%s", strerror(-r));
		return EXIT_COULD_NOT;
	}
	if (!argc && ctl->state_dir) {
		given = (struct share){ .dir = (char *)"", .inside = (char *)"", .id = (char *)"", .client_error = 1,
					.state_dir = (char *)ctl->state_dir, .state_dir_given = true };
		r = show_share(&show, &given, name);
		client_close(given.client);
	} else {
		r = shares_find(shares, argc ? argv[0] : ".", true, &place, &f);
		if (r < 0) {
			complain("%s", f.text);
		} else {
			r = show_share(&show, place.share, name);
			place_fini(&place);
		}
	}
	shares_close(shares);
	return finish_output(r < 0 ? EXIT_COULD_NOT : show.found ? EXIT_YES : EXIT_NO);
}
