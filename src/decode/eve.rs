//! What Suricata's own events and those that AWS Network Firewall wraps have in common: the ends of a flow.
//!
//! `src_ip` and `dest_ip` are those of the packet that made the event. An alert on a reply has the server as
//! its source; then `direction` is `to_client`. Version 7 adds the ends of the flow itself under `flow`.

use crate::event::{Row, SlotId, Value};

use super::Wanted;

/// A made native, the flow's own field, and the packet's fields on the way to the server and to the client.
pub(super) type EndNames = [&'static str; 4];

/// Fills client and server.
pub(super) struct Ends {
    direction: Option<SlotId>,
    ends: Vec<[SlotId; 4]>,
}

impl Ends {
    pub(super) fn new(wanted: &Wanted, direction: &str, ends: &[EndNames]) -> Self {
        let slot = |name| wanted.slot(name);
        let slots = |[made, flow, packet, reply]: &EndNames| Some([slot(made)?, slot(flow)?, slot(packet)?, slot(reply)?]);
        Self { direction: slot(direction), ends: ends.iter().filter_map(slots).collect() }
    }

    pub(super) fn fill(&self, row: &mut Row<'_>) {
        let is_reply = self.direction.is_some_and(|slot| row.value(slot) == Value::Text(b"to_client"));
        for [made, flow, packet, reply] in &self.ends {
            let otherwise = if is_reply { reply } else { packet };
            let from = if row.value(*flow) == Value::Missing { otherwise } else { flow };
            row.set(*made, row.slot(*from));
        }
    }
}
