//! The default compatibility plugin: checks the kind of job, the GPU's memory and the model types.
//!
//! It refuses only what it knows to be impossible. A worker that lists no job types or no models
//! takes all of them, and so does a worker whose list contains words that this plugin does not know.

/// Bindings generated from the WIT package.
#[allow(missing_docs, unsafe_code, reason = "generated")]
pub mod bindings {
    wit_bindgen::generate!({ world: "compatibility-plugin", path: "../../wit" });

    #[cfg(all(feature = "guest", target_family = "wasm"))]
    use super::Requirements;
    #[cfg(all(feature = "guest", target_family = "wasm"))]
    export!(Requirements);
}

use bindings::exports::sleap_rtc::policy::compatibility::{Guest, Reason, Verdict};
use bindings::sleap_rtc::policy::types::{Context, Job, JobType, Value, Worker};

struct Requirements;

impl Guest for Requirements {
    fn check(_: Context, job: Job, worker: Worker) -> Result<Verdict, String> {
        let reasons = obstacles(&job, &worker);
        Ok(if reasons.is_empty() { Verdict::Yes } else { Verdict::No(reasons) })
    }
}

/// Every reason why `worker` cannot take `job`.
pub fn obstacles(job: &Job, worker: &Worker) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let wanted = word(&job.job_type);
    if !worker.job_types.is_empty() && !worker.job_types.iter().any(|t| word(t) == wanted) {
        reasons.push(reason("job-type", format!("takes no {wanted} jobs")));
    }
    let has = worker.gpus.iter().map(|gpu| gpu.memory_mib).max().unwrap_or(0);
    let needs = job.requirements.min_gpu_memory_mib.unwrap_or(0);
    if has < needs {
        let message = format!("needs {} MB, has {} MB", grouped(needs), grouped(has));
        reasons.push(reason("gpu-memory", message));
    }
    if let Some(shortage) = memory_shortage(job, has) {
        reasons.push(reason("gpu-memory", shortage));
    }
    for model in &job.model_types {
        if !covers(&worker.models, model) {
            let message =
                format!("does not work with {model} models, only {}", worker.models.join(", "));
            reasons.push(reason("model-type", message));
        }
    }
    reasons
}

/// Why the training would run out of memory on a GPU that has `has` MiB, and what would help. A worker without
/// a GPU trains in the machine's memory.
fn memory_shortage(job: &Job, has: u64) -> Option<String> {
    let property = |key: &str| job.properties.iter().find(|p| p.key == key).map(|p| &p.value);
    let integer = |key| match property(key) {
        Some(Value::Integer(integer)) => u64::try_from(*integer).ok(),
        _ => None,
    };
    let needs = integer("gpu-memory-needed-mib").filter(|needs| has > 0 && *needs > has)?;
    let fitting = || {
        let Some(Value::Number(per_sample)) = property("gpu-memory-per-sample-mib") else {
            return None;
        };
        let batch_size = integer("gpu-memory-batch-size")?;
        let spared = ((needs - has) as f64 / per_sample).ceil();
        // A saturating cast, also of what is not a number.
        let fitting =
            batch_size.checked_sub(spared as u64).filter(|size| *size > 0 && *per_sample > 0.0)?;
        Some(format!(
            "a batch size of {fitting} instead of {batch_size} fits; so may a smaller input scale"
        ))
    };
    let advice = fitting().unwrap_or_else(|| "a smaller input scale may fit".into());
    let (needs, has) = (grouped(needs), grouped(has));
    Some(format!("training needs about {needs} MB of GPU memory, has {has} MB: {advice}"))
}

/// Model types, each with the word that older workers use for the pipeline it belongs to.
const MODELS: [(&str, &str); 6] = [
    ("single_instance", "base"),
    ("bottomup", "base"),
    ("multi_class_bottomup", "base"),
    ("centroid", "topdown"),
    ("centered_instance", "topdown"),
    ("multi_class_topdown", "topdown"),
];

/// Whether a worker that lists `listed` works with `model`. `base` stands for any single model.
fn covers(listed: &[String], model: &str) -> bool {
    let known = |word: &str| {
        matches!(word, "base" | "topdown") || MODELS.iter().any(|(model, _)| *model == word)
    };
    let pipeline = MODELS.iter().find(|(name, _)| *name == model).map(|(_, pipeline)| *pipeline);
    listed.is_empty()
        || listed.iter().any(|word| {
            word == model || word == "base" || pipeline == Some(word.as_str()) || !known(word)
        })
}

fn reason(code: &str, message: String) -> Reason {
    Reason { code: code.into(), message }
}

fn word(job_type: &JobType) -> &str {
    match job_type {
        JobType::Training => "training",
        JobType::Inference => "inference",
        JobType::Other(word) => word,
    }
}

/// `12000` as `12,000`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works(listed: &[&str], model: &str) -> bool {
        covers(&listed.iter().map(ToString::to_string).collect::<Vec<_>>(), model)
    }

    #[test]
    fn a_model_is_refused_only_where_the_list_clearly_lacks_it() {
        let legacy = ["base", "centroid", "topdown"];
        for (model, _) in MODELS {
            assert!(works(&legacy, model), "{model}");
            assert!(works(&[], model), "{model}");
            assert!(works(&["something-new"], model), "{model}");
            assert!(works(&[model], model), "{model}");
        }
        assert!(works(&["topdown"], "centered_instance"));
        assert!(works(&legacy, "something-new"));
        assert!(!works(&["centroid", "topdown"], "bottomup"));
        assert!(!works(&["centroid"], "centered_instance"));
        assert!(!works(&["bottomup"], "something-new"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1000, 12000, 1234567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,000", "1,234,567"]);
    }
}
