"""Replaces the paths of videos in SLEAP's labels.

Arguments: a JSON file with [[old, new], …], and the labels. Old paths are relative to the working folder.
"""
import json, os, shutil, sys
import h5py

def key(path):
    return os.path.abspath(path.replace("\\", "/"))

with open(sys.argv[1], encoding="utf-8") as file:
    PATHS = {key(old): new for old, new in json.load(file)}

def changed(value):
    """The same JSON with other file names, however deep they are."""
    if isinstance(value, list):
        return [changed(each) for each in value]
    if not isinstance(value, dict):
        return value
    names = lambda name: [names(each) for each in name] if isinstance(name, list) else (
        PATHS.get(key(name), name) if isinstance(name, str) and name != "." else name)
    return {k: names(v) if k in ("filename", "filenames") else changed(v) for k, v in value.items()}

def text(json_text):
    return json_text.decode() if isinstance(json_text, bytes) else str(json_text)

def rewrite(path):
    with h5py.File(path, "r") as file:
        if "videos_json" not in file:
            return
        before = [json.loads(text(each)) for each in file["videos_json"][()]]
        sources = {name: json.loads(text(group["source_video"].attrs["json"]))
                   for name, group in file.items()
                   if isinstance(group, h5py.Group) and "json" in getattr(group.get("source_video"), "attrs", {})}
    if changed(before) == before and changed(sources) == sources:
        return
    # Written to a new file that is then renamed, so that a crash leaves complete labels and links keep
    # their targets.
    copy = path + ".sleap-rtc"
    try:
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            del file["videos_json"]
            lines = [json.dumps(each, separators=(",", ":")) for each in changed(before)]
            file.create_dataset("videos_json", data=lines, maxshape=(None,), dtype=h5py.string_dtype())
            for name, source in sources.items():
                file[name]["source_video"].attrs["json"] = json.dumps(changed(source), separators=(",", ":"))
        os.replace(copy, path)
    finally:
        if os.path.exists(copy):
            os.remove(copy)

for labels in sys.argv[2:]:
    rewrite(labels)
