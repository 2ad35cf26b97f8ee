#include "fs/quota_notice.h"

#include <string.h>

#include "fs/events.h"
#include "fs/log.h"
#include "fs/quota_provider.h"

void quota_notice_tell(struct wormfs *fs, const struct quota_notice *notice)
{
	events_quota(fs, notice);
	quota_provider_put(fs, notice);
	log_warning("quota: %s: %s by uid %u%s%s%s%s", event_quota_kind_name(notice->quota.kind), notice->detail, notice->actor.uid,
		    notice->path ? ", '" : "", notice->path ? notice->path : "", notice->path ? "'" : "",
		    notice->error ? ", refused" : "");
}
