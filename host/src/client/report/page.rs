//! Writes the report.

use super::html::{curves, escaped, table};
use super::model_folder::{ModelFolder, ModelPicture};
use crate::client::display::view::best;
use crate::client::record::{Record, SeenState};
use crate::dates::day;
use sleap_rtc_protocol::ids::JobId;

/// Nothing may be loaded or run, whatever the report contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

const STYLE: &str = "\
:root{color-scheme:light dark;--soft:#68707c;--line:#d9dde3;--loss:#0b6e99;--validation:#b35900}
@media(prefers-color-scheme:dark){:root{--soft:#a0a8b4;--line:#3a414b;--loss:#5cc8f2;--validation:#f2b05c}}
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.6rem;margin-bottom:0}h2{border-top:1px solid var(--line);padding-top:1.5rem;margin-top:2rem}
h3{font-size:1rem;margin:1.5rem 0 .25rem}.soft,figcaption{color:var(--soft)}
table{border-collapse:collapse}th,td{text-align:left;padding:.15rem 1.5rem .15rem 0;vertical-align:top}
th{font-weight:normal;color:var(--soft)}td{overflow-wrap:anywhere}
svg{width:100%;max-width:42rem;height:auto}svg text{font-size:11px;fill:currentColor}
.grid{stroke:var(--line)}.value{text-anchor:end}.epoch{text-anchor:middle}
path{fill:none;stroke-width:2}path.loss{stroke:var(--loss)}path.validation{stroke:var(--validation)}
b.loss{color:var(--loss)}b.validation{color:var(--validation)}
pre{overflow:auto;padding:.75rem;border:1px solid var(--line);border-radius:.4rem;font-size:.85rem}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(14rem,1fr));gap:1rem}
figure{margin:0}img{width:100%;height:auto}";

/// The whole file.
pub(super) fn page(record: &Record, job: &JobId, models: &[ModelFolder]) -> String {
    let title = escaped(&record.name);
    let models: String = models.iter().map(of_model).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p class=\"soft\">{id}</p>\n{facts}{models}{repeat}</body>\n</html>\n",
        id = escaped(job.as_str()),
        facts = table(&facts(record)),
        repeat = repeat(record),
    )
}

fn facts(record: &Record) -> Vec<(&'static str, String)> {
    let outcome = match &record.last_seen.state {
        SeenState::Over { outcome, .. } => outcome.words().to_owned(),
        _ => "was not followed to its end from here".to_owned(),
    };
    let worker = record.job_string().map(|job_ref| job_ref.worker.to_string());
    let route = record.last_seen.route.clone();
    let facts = [
        ("Kind", Some(record.job_type.as_str().to_owned())),
        ("Outcome", Some(outcome)),
        ("Submitted", Some(day(record.submitted_s))),
        ("Worker", worker.ok()),
        ("Connection", route),
        ("Result", Some(record.output().path().display().to_string())),
        ("sleap-rtc", Some(env!("CARGO_PKG_VERSION").to_owned())),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn of_model(model: &ModelFolder) -> String {
    let mut html = format!("<h2>{}</h2>\n", escaped(model.name.as_str()));
    if let Some(run) = &model.run {
        let best = best(run).unwrap_or_else(|| "no losses".to_owned());
        let legend = "<b class=\"loss\">loss</b>, <b class=\"validation\">validation loss</b>";
        html.push_str(&format!("<p>{legend}: {}</p>\n{}", escaped(&best), curves(run)));
    }
    for (file, numbers) in &model.numbers {
        html.push_str(&format!("<h3>Numbers of {}</h3>\n", escaped(file.as_str())));
        html.push_str(&table(numbers));
    }
    if !model.pictures.is_empty() {
        let pictures: String = model.pictures.iter().map(figure).collect();
        html.push_str(&format!("<h3>Pictures</h3>\n<div class=\"pictures\">{pictures}</div>\n"));
    }
    let settings = model.settings();
    if !settings.is_empty() {
        html.push_str(&format!("<h3>Settings</h3>\n{}", table(&settings)));
    }
    if let Some(config) = &model.config {
        let config = escaped(config);
        html.push_str(&format!(
            "<details><summary>All settings</summary><pre>{config}</pre></details>\n"
        ));
    }
    if !model.left_out.is_empty() {
        let names: Vec<&str> = model.left_out.iter().map(AsRef::as_ref).collect();
        let names = escaped(&names.join(", "));
        html.push_str(&format!("<p class=\"soft\">Not shown: {names}</p>\n"));
    }
    html
}

fn figure(picture: &ModelPicture) -> String {
    // The address has only letters and digits of base64.
    let (name, data) = (escaped(picture.name.as_str()), &picture.data);
    format!("<figure><img src=\"{data}\" alt=\"{name}\"><figcaption>{name}</figcaption></figure>")
}

/// The command that does the same again, without the credentials of the room.
fn repeat(record: &Record) -> String {
    if record.command.is_empty() {
        return String::new();
    }
    let command = escaped(&shell_words::join(&record.command));
    format!(
        "<h2>Again</h2>\n<p>In a room that this machine has paired with:</p>\n<pre>{command}</pre>\n"
    )
}
