"""Writes what a program is made of, as CycloneDX 1.5: `sbom.py PACKAGE REVISION SECONDS >FILE`, in the root of the source.

The crates are those that `cargo metadata` reaches from the package on this kind of host, without those that only tests and build scripts
use; their hashes are those of `Cargo.lock`. Besides them the engine has what it serves to browsers and others wrote. The same source gives the same bytes.
"""

import datetime
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import uuid

TARGET = "x86_64-unknown-linux-gnu"
LOCKED = r'name = "(.*)"\nversion = "(.*)"\nsource = ".*"\nchecksum = "(.*)"\n'


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def reached(root, nodes):
    """Returns the ids of what is linked: from the root over edges that are neither of tests nor of build scripts."""
    edges = {
        node["id"]: sorted(dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"]))
        for node in nodes
    }
    found, waiting = set(), [root]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(edges[one])
    return {one: [other for other in edges[one] if other in found] for one in found}


def component(package, kind, checksums):
    entry = {"type": kind, "bom-ref": purl(package), "name": package["name"], "version": package["version"], "purl": purl(package)}
    if package["description"]:
        entry["description"] = " ".join(package["description"].split())
    if package["license"]:
        # Older crates separate by a stroke what is a choice.
        entry["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package["repository"]:
        entry["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return entry


def embedded(name):
    """Returns what is part of the program and no crate: the charts of the dashboard, whose file opens with its version."""
    if name != "corecast":
        return []
    script = pathlib.Path("engine/assets/uplot.min.js").read_bytes()
    [version] = re.findall(r"uPlot (\d+\.\d+\.\d+),", script.decode())
    reference = f"pkg:npm/uplot@{version}"
    return [{
        "type": "library", "bom-ref": reference, "name": "uplot", "version": version, "purl": reference, "licenses": [{"expression": "MIT"}],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(script).hexdigest()}],
        "externalReferences": [{"type": "vcs", "url": "https://github.com/leeoniya/uPlot"}],
    }]


def main():
    name, revision, seconds = sys.argv[1:]
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", TARGET]
    metadata = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    [root] = [one for one in metadata["workspace_members"] if packages[one]["name"] == name]
    edges = reached(root, metadata["resolve"]["nodes"])
    locked = re.findall(LOCKED, pathlib.Path("Cargo.lock").read_text())
    checksums = {(name, version): checksum for name, version, checksum in locked}
    order = sorted(edges, key=lambda one: purl(packages[one]))
    main_component = component(packages[root], "application", checksums)
    if revision:
        main_component["pedigree"] = {"commits": [{"uid": revision}]}
    others = embedded(name)
    written = datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc)
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{purl(packages[root])}?{revision}')}",
        "version": 1,
        "metadata": {"timestamp": written.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": main_component},
        "components": [component(packages[one], "library", checksums) for one in order if one != root] + others,
        "dependencies": [
            {
                "ref": purl(packages[one]),
                "dependsOn": sorted([purl(packages[other]) for other in edges[one]] + [other["purl"] for other in others if one == root]),
            }
            for one in order
        ] + [{"ref": other["bom-ref"], "dependsOn": []} for other in others],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
