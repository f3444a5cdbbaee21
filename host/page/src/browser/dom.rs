//! A page as a value: a view says what is to be seen, and the document is changed where it differs.
//!
//! Texts become text nodes and attributes, never HTML. Attributes do not include `style`, which the
//! page's policy forbids.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Document, Event, Node};

const SVG: &str = "http://www.w3.org/2000/svg";

/// What happens when an event reaches an element.
pub type Handler = Rc<dyn Fn(&Event)>;

/// A node to be seen.
pub enum View {
    /// A text.
    Text(String),
    /// An element.
    Element(Element),
}

/// An element to be seen.
pub struct Element {
    tag: &'static str,
    is_svg: bool,
    key: Option<String>,
    attributes: Vec<(&'static str, String)>,
    handlers: Vec<(&'static str, Handler)>,
    children: Vec<View>,
}

/// An element of HTML.
pub fn el(tag: &'static str) -> Element {
    let (attributes, handlers, children) = (Vec::new(), Vec::new(), Vec::new());
    Element { tag, is_svg: false, key: None, attributes, handlers, children }
}

/// An element of SVG.
pub fn svg(tag: &'static str) -> Element {
    Element { is_svg: true, ..el(tag) }
}

impl Element {
    /// Sets an attribute.
    pub fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// Sets the classes.
    pub fn class(self, names: &str) -> Self {
        self.attr("class", names)
    }

    /// Sets an attribute without a value, if `is_set`.
    pub fn flag(self, name: &'static str, is_set: bool) -> Self {
        if is_set { self.attr(name, "") } else { self }
    }

    /// Handles an event.
    pub fn on(mut self, event: &'static str, handler: impl Fn(&Event) + 'static) -> Self {
        self.handlers.push((event, Rc::new(handler)));
        self
    }

    /// An element of another key is another element, whatever it has in common with this one.
    pub fn key(mut self, key: impl ToString) -> Self {
        self.key = Some(key.to_string());
        self
    }

    /// Adds a child.
    pub fn with(mut self, child: impl Into<View>) -> Self {
        self.children.push(child.into());
        self
    }

    /// Adds children.
    pub fn all(mut self, children: impl IntoIterator<Item = impl Into<View>>) -> Self {
        self.children.extend(children.into_iter().map(Into::into));
        self
    }

    fn is_same(&self, other: &Self) -> bool {
        self.tag == other.tag && self.is_svg == other.is_svg && self.key == other.key
    }
}

impl From<Element> for View {
    fn from(element: Element) -> Self {
        Self::Element(element)
    }
}

impl From<&str> for View {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for View {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A node of the document, and what it shows.
pub struct Mounted {
    view: View,
    node: Node,
    children: Vec<Mounted>,
    listeners: Vec<Listener>,
}

struct Listener {
    event: &'static str,
    handler: Rc<RefCell<Handler>>,
    closure: Closure<dyn FnMut(Event)>,
}

impl Mounted {
    /// A new node for `view`.
    pub fn new(document: &Document, view: View) -> Result<Self, JsValue> {
        let mut element = match view {
            View::Text(text) => {
                let node = document.create_text_node(&text).into();
                let (children, listeners) = (Vec::new(), Vec::new());
                return Ok(Self { view: View::Text(text), node, children, listeners });
            }
            View::Element(element) => element,
        };
        let made = match element.is_svg {
            true => document.create_element_ns(Some(SVG), element.tag)?,
            false => document.create_element(element.tag)?,
        };
        for (name, value) in &element.attributes {
            made.set_attribute(name, value)?;
        }
        let mut children = Vec::new();
        for child in std::mem::take(&mut element.children) {
            let child = Self::new(document, child)?;
            made.append_child(&child.node)?;
            children.push(child);
        }
        let (node, listeners) = (made.into(), Vec::new());
        let mut mounted = Self { view: View::Element(element), node, children, listeners };
        mounted.listen()?;
        Ok(mounted)
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Changes the document so that it shows `view`.
    pub fn show(&mut self, document: &Document, view: View) -> Result<(), JsValue> {
        match (&mut self.view, view) {
            (View::Text(old), View::Text(new)) => {
                if *old != new {
                    self.node.set_text_content(Some(&new));
                    *old = new;
                }
                Ok(())
            }
            (View::Element(old), View::Element(mut new)) if old.is_same(&new) => {
                let children = std::mem::take(&mut new.children);
                self.change(new)?;
                self.show_children(document, children)
            }
            (_, new) => {
                let other = Self::new(document, new)?;
                if let Some(parent) = self.node.parent_node() {
                    parent.replace_child(&other.node, &self.node)?;
                }
                *self = other;
                Ok(())
            }
        }
    }

    fn change(&mut self, new: Element) -> Result<(), JsValue> {
        let View::Element(old) = &self.view else { return Ok(()) };
        let node: &web_sys::Element = self.node.unchecked_ref();
        for (name, value) in &new.attributes {
            if !old.attributes.iter().any(|(known, same)| known == name && same == value) {
                node.set_attribute(name, value)?;
            }
        }
        for (name, _) in &old.attributes {
            if !new.attributes.iter().any(|(kept, _)| kept == name) {
                node.remove_attribute(name)?;
            }
        }
        self.view = View::Element(new);
        self.listen()
    }

    /// What is shown already stays where it is, with its focus and what was typed into it, if something
    /// appears or disappears before it.
    fn show_children(&mut self, document: &Document, views: Vec<View>) -> Result<(), JsValue> {
        let mut old = VecDeque::from(std::mem::take(&mut self.children));
        let mut views = VecDeque::from(views);
        while let Some(view) = views.pop_front() {
            let mut known = old.iter().position(|child| child.fits(&view));
            // What nobody wants any more makes room.
            while let (Some(place @ 1..), Some(first)) = (known, old.front()) {
                if views.iter().any(|later| first.fits(later)) {
                    break;
                }
                self.node.remove_child(&first.node)?;
                old.pop_front();
                known = Some(place - 1);
            }
            let child = match known.and_then(|place| old.remove(place)) {
                Some(mut child) => {
                    child.show(document, view)?;
                    child
                }
                None => Self::new(document, view)?,
            };
            if known != Some(0) {
                self.node.insert_before(&child.node, old.front().map(|next| &next.node))?;
            }
            self.children.push(child);
        }
        old.iter().try_for_each(|child| self.node.remove_child(&child.node).map(drop))
    }

    /// Whether this becomes `view` by changes alone.
    fn fits(&self, view: &View) -> bool {
        match (&self.view, view) {
            (View::Text(_), View::Text(_)) => true,
            (View::Element(own), View::Element(other)) => own.is_same(other),
            _ => false,
        }
    }

    /// Has the handlers of the view handle the node's events.
    fn listen(&mut self) -> Result<(), JsValue> {
        let View::Element(element) = &self.view else { return Ok(()) };
        for listener in &self.listeners {
            if !element.handlers.iter().any(|(event, _)| *event == listener.event) {
                let function = listener.closure.as_ref().unchecked_ref();
                self.node.remove_event_listener_with_callback(listener.event, function)?;
            }
        }
        self.listeners
            .retain(|listener| element.handlers.iter().any(|(event, _)| *event == listener.event));
        for (event, handler) in &element.handlers {
            if let Some(known) = self.listeners.iter().find(|known| known.event == *event) {
                known.handler.replace(handler.clone());
                continue;
            }
            let current = Rc::new(RefCell::new(handler.clone()));
            let handler = current.clone();
            let closure = Closure::<dyn FnMut(Event)>::new(move |event: Event| {
                let handler = current.borrow().clone();
                handler(&event);
            });
            let function = closure.as_ref().unchecked_ref();
            self.node.add_event_listener_with_callback(event, function)?;
            self.listeners.push(Listener { event, handler, closure });
        }
        Ok(())
    }
}
