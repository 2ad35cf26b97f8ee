/* A message on the kernel's quota socket: any bytes are an error, or a warning that can be sent again as the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fs/quota_netlink.h"

#define FAMILY 17

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	unsigned char message[QUOTA_NETLINK_BYTES];
	struct event_quota quota, again;
	uint32_t uid, uid_again;

	if (quota_netlink_parse(FAMILY, data, len, &quota, &uid) < 0)
		return 0;
	if (!event_quota_kind_name(quota.kind) || !event_quota_warning_name(quota.warning))
		abort();
	if (quota_netlink_format(FAMILY, 1, &quota, uid, message) < 0 ||
	    quota_netlink_parse(FAMILY, message, sizeof(message), &again, &uid_again) < 0 ||
	    memcmp(&quota, &again, sizeof(quota)) != 0 || uid != uid_again)
		abort();
	return 0;
}
