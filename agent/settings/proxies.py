"""The HTTP proxy of a site: the variables that other programs read, from worker.env as well."""

from __future__ import annotations

from agent.settings.sources import Layer

NAMES = ("http_proxy", "https_proxy", "no_proxy")
"""In small letters; every program that matters here also knows them in capitals."""
DIRECT = (
    "localhost,127.0.0.1,127.0.0.0/8,::1,169.254.169.254,fd00:ec2::254,"
    "10.42.0.0/16,10.43.0.0/16,.svc,.cluster.local"
)
"""Never asked for through a proxy: loopback, the cloud's metadata service, pods, services. As in lib/settings.sh."""


def proxy_environment(layers: list[Layer]) -> dict[str, str]:
    """Return the environment variables, in small and capital letters, that make programs use the site's proxy."""
    given = {name: "".join(_first(name, layers).split()) for name in NAMES}
    for name in ("http_proxy", "https_proxy"):
        if given[name] and "://" not in given[name]:
            given[name] = f"http://{given[name]}"
    if (given["http_proxy"] or given["https_proxy"]) and not given["no_proxy"].endswith(DIRECT):
        given["no_proxy"] = ",".join(filter(None, (given["no_proxy"], DIRECT)))
    return {form: value for name, value in given.items() if value for form in (name, name.upper())}


def _first(name: str, layers: list[Layer]) -> str:
    values = (layer.values.get(form) for layer in layers for form in (name, name.upper()))
    return next(filter(None, values), "")
