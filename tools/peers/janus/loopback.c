/* Janus leaves loopback interfaces out of its ICE candidates, and has no setting for it. Preloaded
 * into Janus, this hides from it that an interface is one. Nothing here runs per packet. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <ifaddrs.h>
#include <net/if.h>

int getifaddrs(struct ifaddrs **list)
{
    int (*original)(struct ifaddrs **) =
        (int (*)(struct ifaddrs **))dlsym(RTLD_NEXT, "getifaddrs");
    int result = original(list);
    if (result == 0)
        for (struct ifaddrs *each = *list; each; each = each->ifa_next)
            each->ifa_flags &= ~IFF_LOOPBACK;
    return result;
}
