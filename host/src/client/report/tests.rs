//! Reports about results of every quality.

use super::{models, page};
use crate::client::record::Record;
use serde_json::json;
use sleap_rtc_protocol::ids::{JobId, JobSecret, PeerId, RoomId, Token};
use sleap_rtc_trust::credential::{Credential, RoomToken};
use sleap_rtc_trust::session::JobString;
use std::fs;
use std::path::Path;

const HOSTILE: &str = "<script>alert(1)</script>\u{202e}\"'&";

/// A job's record, whose name is `name` and whose result is in `output`.
fn record(name: &str, output: &Path) -> Record {
    let job_ref = JobString {
        room: Credential {
            room_id: RoomId::new("room-1").unwrap(),
            token: RoomToken::keyless(Token::new("token").unwrap()),
        },
        worker: PeerId::new("peer-1").unwrap(),
        device: None,
        job: JobId::new("job-1").unwrap(),
        secret: JobSecret::from_random(7),
    };
    let record = json!({
        "string": job_ref.to_string(),
        "websocket": "ws://127.0.0.1:8080/",
        "http": "http://127.0.0.1:8001/",
        "name": name,
        "job_type": "training",
        "submitted_s": 1_796_083_199,
        "output": output,
        "command": ["sleap-rtc", "client-train", "--pkg-path", "/data/my labels.pkg.zip"],
        "last_seen": { "state": { "state": "over", "outcome": { "outcome": "succeeded" }, "fetched": true },
            "event": 9, "at_s": 0 },
    });
    serde_json::from_value(record).unwrap()
}

fn model(result: &Path, name: &str) {
    let folder = result.join(name);
    fs::create_dir_all(folder.join("viz")).unwrap();
    let log = "epoch,train/loss,val/loss,learning_rate\n0,0.5,0.6,0.001\n1,0.1,,0.001\n2,0.05,0.2,\nx,y\n";
    fs::write(folder.join("training_log.csv"), log).unwrap();
    let config = format!(
        "model_config:\n  head_configs:\n    centroid: {{confmaps: 1}}\n    bottomup: null\n\
         trainer_config:\n  max_epochs: 100\n  run_name: '{}'\nsleap_nn_version: 0.3.5\n",
        HOSTILE.replace('\'', "")
    );
    fs::write(folder.join("training_config.yaml"), config).unwrap();
    let metrics = json!({ "mOKS": { "mOKS": 0.87654 }, HOSTILE: 3, "dists": [1.0, 2.0], "dist": { "p50": 1.5 } });
    fs::write(folder.join("metrics.val.0.json"), metrics.to_string()).unwrap();
    fs::write(folder.join("metrics.val.0.npz"), b"PK\x03\x04").unwrap();
    fs::write(folder.join("metrics.train.0.npz"), b"PK\x03\x04").unwrap();
    for epoch in 0..14 {
        fs::write(folder.join(format!("viz/validation.{epoch:04}.png")), b"\x89PNG picture")
            .unwrap();
    }
    fs::write(folder.join("viz/evil.svg"), "<svg onload=alert(1)>").unwrap();
}

#[test]
fn a_report_has_curves_numbers_pictures_settings_and_the_command() {
    let result = tempfile::tempdir().unwrap();
    model(result.path(), "centroid");
    fs::create_dir(result.path().join("no-model")).unwrap();
    let record = record("flies", result.path());
    let path = super::write(&record, None).unwrap();
    assert!(path.starts_with(result.path()));
    let html = fs::read_to_string(path).unwrap();
    for part in [
        "<h2>centroid</h2>",
        "best 0.2000 in epoch 3 of 100",
        "<path class=\"loss\" d=\"M",
        "mOKS · mOKS</th><td>0.8765</td>",
        "dist · p50",
        "validation.0013.png",
        "src=\"data:image/png;base64,iVBORyBwaWN0dXJl\"",
        "<th scope=\"row\">Most epochs</th><td>100</td>",
        "<th scope=\"row\">Model</th><td>centroid</td>",
        "Not shown: metrics.train.0.npz, validation.0001.png, validation.0000.png",
        "client-train --pkg-path &#39;/data/my labels.pkg.zip&#39;",
        "succeeded",
    ] {
        assert!(html.contains(part), "no {part} in:\n{html}");
    }
    assert!(!html.contains("no-model") && !html.contains("validation.0001.png\""));
}

#[test]
fn nothing_in_a_report_runs_or_is_loaded() {
    let result = tempfile::tempdir().unwrap();
    model(result.path(), "<img src=x onerror=alert(1)>");
    let record = record(HOSTILE, result.path());
    let html =
        page::page(&record, &record.job_string().unwrap().job, &models(result.path()).unwrap());
    for bad in [
        "<script",
        "<img src=x",
        "onload=alert(1)>",
        "\u{202e}",
        "sleap-job:",
        "http://",
        "https://",
    ] {
        assert!(!html.contains(bad), "{bad} in:\n{html}");
    }
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn a_job_without_a_result_here_has_no_report() {
    let nowhere = Path::new("/nonexistent/models");
    let refused = super::write(&record("flies", nowhere), None).unwrap_err().to_string();
    assert!(refused.contains("sleap-rtc fetch job-"), "{refused}");
}
