/* Numbers of rules: a record has room for a number, people want a name. Two values of the meta table each,
 * "rule.NAME" = number and "rule#NUMBER" = name, which are never changed or taken away. */
#include "lockstore/ledger.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lockstore/ledger_private.h"
#include "lockstore/policy.h"

#define META_NUMBER "rule."
#define META_NAME "rule#"
#define META_BYTES (POLICY_NAME_MAX_BYTES + 16)

int ledger_rule_name(struct ledger *ledger, uint16_t number, char **ret_name)
{
	char key[META_BYTES];

	snprintf(key, sizeof(key), META_NAME "%u", number);
	return ledger_meta_get(ledger, key, ret_name);
}

/* The first number that is free, from the one that its letters give. */
static int free_number(struct ledger *ledger, const char *name, uint16_t *ret_number)
{
	uint16_t number = policy_number_of_name(name);
	char *taken;
	int r;

	for (unsigned tries = 0; tries < UINT16_MAX; tries++) {
		r = ledger_rule_name(ledger, number, &taken);
		if (r == -ENOENT) {
			*ret_number = number;
			return 0;
		}
		if (r < 0)
			return r;
		free(taken);
		number = number == UINT16_MAX ? 1 : number + 1;
	}
	return ledger_say(ledger, -EOVERFLOW, "65535 names of rules have been used on this share: use one of those again");
}

int ledger_rule_number(struct ledger *ledger, const char *name, uint16_t *ret_number)
{
	char key[META_BYTES], key_of_number[META_BYTES], text[16], *value;
	uint16_t number = 0;
	int r;

	if (!*name || strlen(name) > POLICY_NAME_MAX_BYTES)
		return ledger_say(ledger, -EINVAL, "not a name of a rule");
	snprintf(key, sizeof(key), META_NUMBER "%s", name);
	r = ledger_meta_get(ledger, key, &value);
	if (r == 0) {
		number = strtoul(value, NULL, 10);
		free(value);
		if (number == 0)
			return ledger_say(ledger, -EIO, "the number of a rule cannot be read");
	} else if (r == -ENOENT) {
		r = free_number(ledger, name, &number);
		snprintf(key_of_number, sizeof(key_of_number), META_NAME "%u", number);
		snprintf(text, sizeof(text), "%u", number);
		if (r == 0)
			r = ledger_meta_set(ledger, key_of_number, name);
		if (r == 0)
			r = ledger_meta_set(ledger, key, text);
	}
	if (r == 0)
		*ret_number = number;
	return r;
}
