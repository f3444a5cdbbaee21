//! How to get into a room.

use super::MAIN;
use super::parts::{brand, button, problem};
use crate::browser::dom::{Element, el};
use crate::browser::message::{Msg, send};
use crate::browser::model::Model;
use crate::browser::store::KnownRoom;
use wasm_bindgen::JsCast;
use web_sys::HtmlInputElement;

const FIELD: &str = "key";

/// The bar above.
pub fn bar() -> Element {
    el("header").class("bar").with(brand())
}

/// The screen.
pub fn screen(model: &Model) -> Element {
    let form = el("form")
        .class("card join")
        .with(el("h2").with("Join a room"))
        .with(el("p").class("soft").with(
            "Type the pairing code that a worker shows, such as 4-harbor-violin, or paste the link that it \
             prints when it starts. A session string works too, and so do the room id and the token with a \
             space between them.",
        ))
        .with(el("label").attr("for", FIELD).with("Code, link, session string, or room and token"))
        .with(
            el("div")
                .class("row")
                .with(
                    el("input")
                        .attr("id", FIELD)
                        .attr("type", "text")
                        .attr("autocapitalize", "none")
                        .attr("autocomplete", "off")
                        .attr("spellcheck", "false")
                        .flag("required", true),
                )
                .with(
                    el("button")
                        .attr("type", "submit")
                        .class("button first")
                        .flag("disabled", model.is_pairing)
                        .with("Join"),
                ),
        )
        .all(model.is_pairing.then(|| el("p").attr("role", "status").with("Pairing…")))
        .all(model.refusal.as_deref().map(problem))
        .on("submit", |event| {
            event.prevent_default();
            let document = web_sys::window().and_then(|window| window.document());
            let field = document.and_then(|document| document.get_element_by_id(FIELD));
            if let Some(field) = field {
                send(Msg::Pasted(field.unchecked_into::<HtmlInputElement>().value()));
            }
        });
    let rooms: Vec<Element> = model.rooms.iter().map(room).collect();
    let known = (!rooms.is_empty()).then(|| {
        el("section")
            .class("card")
            .with(el("h2").with("Rooms of this browser"))
            .with(el("ul").class("rooms").all(rooms))
            .with(el("p").class("soft").with(
                "Whoever forgets a room forgets its jobs with it. At their workers they go on.",
            ))
    });
    el("main").class("narrow").attr("id", MAIN).attr("tabindex", -1).with(form).all(known)
}

fn room(room: &KnownRoom) -> Element {
    let (enter, forget) = (Box::new(room.clone()), room.id().clone());
    let name = room.label().to_owned();
    el("li")
        .key(room.id())
        .with(el("code").with(name.as_str()))
        .with(
            button("Enter", "", move || Msg::Enter(enter.clone()))
                .attr("aria-label", format!("Enter room {name}")),
        )
        .with(
            button("Forget", "quiet", move || Msg::Forget(forget.clone()))
                .attr("aria-label", format!("Forget room {name} and its jobs")),
        )
}
