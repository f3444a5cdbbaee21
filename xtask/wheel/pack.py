"""Packs a finished program as a wheel and as an archive. Python's standard library only.

Both hold the program, its manual pages and its completions, and are the same for the same files.
"""

import argparse
import base64
import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

NAME = "sleap_rtc_host"
METADATA = """\
Metadata-Version: 2.4
Name: sleap-rtc-host
Version: {version}
Summary: Train and track with SLEAP on another machine's GPU
License-Expression: BSD-3-Clause
Requires-Python: >=3.8
Description-Content-Type: text/markdown

{readme}"""
WHEEL = """\
Wheel-Version: 1.0
Generator: sleap-rtc
Root-Is-Purelib: false
Tag: py3-none-{tag}
"""
# The oldest date that a zip can have.
DATE = (1980, 1, 1, 0, 0, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", required=True)
    parser.add_argument("--tag", required=True, help="the wheel's platform")
    parser.add_argument("--target", required=True, help="the archive's platform")
    parser.add_argument("--program", required=True, type=Path)
    parser.add_argument("--share", required=True, type=Path, help="the folder of documents")
    parser.add_argument("--readme", required=True, type=Path)
    parser.add_argument("--output", required=True, type=Path)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    share = sorted(path for path in options.share.rglob("*") if path.is_file())
    documents = [(path.relative_to(options.share).as_posix(), path.read_bytes()) for path in share]
    for made in (wheel(options, documents), archive(options, documents)):
        print(f"{made}  {made.stat().st_size / 1e6:.1f} MB")
    sums = [f"{sha256(path)}  {path.name}\n" for path in sorted(options.output.iterdir())
            if path.suffix in (".whl", ".gz", ".zip")]
    (options.output / "SHA256SUMS").write_text("".join(sums))


def wheel(options, documents):
    """The wheel: pip puts `scripts` into `bin`, and `data` below the environment's folder."""
    data, info = f"{NAME}-{options.version}.data", f"{NAME}-{options.version}.dist-info"
    files = [(f"{data}/scripts/{options.program.name}", options.program.read_bytes(), 0o755)]
    files += [(f"{data}/data/share/{name}", content, 0o644) for name, content in documents]
    readme = options.readme.read_text(encoding="utf-8")
    metadata = METADATA.format(version=options.version, readme=readme)
    files.append((f"{info}/METADATA", metadata.encode(), 0o644))
    files.append((f"{info}/WHEEL", WHEEL.format(tag=options.tag).encode(), 0o644))
    record = "".join(f"{name},sha256={digest(content)},{len(content)}\n" for name, content, _ in files)
    files.append((f"{info}/RECORD", f"{record}{info}/RECORD,,\n".encode(), 0o644))
    return zipped(options.output / f"{NAME}-{options.version}-py3-none-{options.tag}.whl", files)


def zipped(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name, content, mode in files:
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = (0o100000 | mode) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            packed.writestr(entry, content)
    return path


def archive(options, documents):
    """The archive: one folder with `bin` and `share`, to unpack below `~/.local` or `/usr/local`.

    For Windows it is a zip.
    """
    folder = f"sleap-rtc-{options.version}-{options.target}"
    files = [(f"bin/{options.program.name}", options.program.read_bytes(), 0o755)]
    files += [(f"share/{name}", content, 0o644) for name, content in documents]
    files.append(("share/doc/sleap-rtc/README.md", options.readme.read_bytes(), 0o644))
    files = [(f"{folder}/{name}", content, mode) for name, content, mode in files]
    if options.program.suffix == ".exe":
        return zipped(options.output / f"{folder}.zip", files)
    path = options.output / f"{folder}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=9) as packed:
        for name, content, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            packed.addfile(entry, io.BytesIO(content))
    return path


def digest(content):
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
