//! bailian's asynchronous tasks: running when first asked for, done when asked for again.
//!
//! No clock is involved, so a test decides how fast a task is.

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::text;

/// The oldest is forgotten beyond.
const TASKS_MAX: usize = 1000;

#[derive(Default)]
pub struct Tasks {
    by_id: IndexMap<String, Task>,
}

struct Task {
    service: String,
    prompt: String,
    was_seen: bool,
}

impl Tasks {
    /// The `output` of the reply that accepts the task.
    pub fn submit(&mut self, service: &str, prompt: &str) -> Value {
        if self.by_id.len() >= TASKS_MAX {
            self.by_id.shift_remove_index(0);
        }
        let id = text::fresh_uuid();
        let task = Task { service: service.into(), prompt: prompt.into(), was_seen: false };
        self.by_id.insert(id.clone(), task);
        json!({"task_id": id, "task_status": "PENDING"})
    }

    /// The `output` for somebody who asks how it goes; `None` for an unknown id.
    pub fn look(&mut self, id: &str) -> Option<Value> {
        let task = self.by_id.get_mut(id)?;
        if !std::mem::replace(&mut task.was_seen, true) {
            return Some(json!({"task_id": id, "task_status": "RUNNING"}));
        }
        let mut output = json!({"task_id": id, "task_status": "SUCCEEDED"});
        if task.service.contains("video") {
            output["video_url"] = json!(format!("https://result.invalid/{id}.mp4"));
        } else {
            output["results"] =
                json!([{"url": format!("https://result.invalid/{id}.png"), "orig_prompt": task.prompt}]);
            output["task_metrics"] = json!({"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0});
        }
        Some(output)
    }
}
