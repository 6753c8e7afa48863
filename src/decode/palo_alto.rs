//! `palo_alto`: PAN-OS syslog, comma-separated, 9.1 to 11.x.
//!
//! Column order and variable names: PAN-OS Administrator's Guide, "Syslog Field Descriptions" (TRAFFIC,
//! THREAT, SYSTEM, CONFIG, GLOBALPROTECT). Newer versions append columns, so a short line is an old version,
//! not a mistake. Quoted columns hold commas, and `""` for a quote.
//!
//! Native fields are the documented variable names (`src`, `dport`, `threatid`). `threatid` reads
//! `Name(12345)`; `misc` is the URL or file name of a THREAT.
//!
//! A line whose type is none of the five keeps the seven leading columns and is `Truncated`; a line with
//! fewer than seven columns is `Malformed`.

use super::{Decoder, DecoderKind, MessageDecoder, Wanted, with_envelope};
use crate::event::{Flaw, Kind, Row, SlotId, Span};
use crate::scan;

pub(super) struct PaloAlto;

impl DecoderKind for PaloAlto {
    fn name(&self) -> &'static str {
        "palo_alto"
    }

    fn sample(&self) -> &'static str {
        "<14>1 2026-11-21T08:00:00.123Z PA-FW-01 - - - - 1,2026/11/21 08:00:00,012801010010,TRAFFIC,end,2561,\
         2026/11/21 08:00:00,10.1.2.3,93.184.216.34,203.0.113.7,93.184.216.34,Allow-Outbound-Web,corp\\asmith1,,ssl,vsys1,\
         trust,untrust,ethernet1/1,ethernet1/9,siem-fwd,2026/11/21 08:00:00,31337,1,52011,443,40122,443,0x400053,tcp,allow,\
         5200,1200,4000,12,2026/11/21 08:00:00,30,low-risk,,7000000001,0x8000000000000000,10.0.0.0-10.255.255.255,US,,6,6,tcp-fin"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../rules/schema/palo_alto.yaml")
    }

    fn natives(&self) -> Option<Vec<&'static str>> {
        let mut names: Vec<_> = LAYOUTS.iter().flat_map(|layout| layout.columns.split(',')).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    fn sniff(&self, frame: &[u8]) -> Option<&'static str> {
        // The type is the fourth column: it stands early, behind the serial number.
        let head = &frame[..frame.len().min(256)];
        let has = |layout: &Layout| memchr::memmem::find(head, layout.marker.as_bytes()).is_some();
        LAYOUTS.iter().find(|layout| has(layout)).map(|layout| layout.why)
    }

    fn build(&self, wanted: Wanted) -> Box<dyn Decoder> {
        let layouts = LAYOUTS.iter().map(|layout| Columns::new(layout.columns, &wanted)).collect();
        let head = Columns::new(HEAD, &wanted);
        with_envelope(&wanted, Message { layouts, head, ends: Vec::new() })
    }
}

struct Layout {
    kind: &'static [u8],
    marker: &'static str,
    why: &'static str,
    columns: &'static str,
}

const HEAD: &str = ",receive_time,serial,type,subtype,,time_generated";

static LAYOUTS: &[Layout] = &[
    Layout {
        kind: b"TRAFFIC",
        marker: ",TRAFFIC,",
        why: "a comma-separated PAN-OS line whose type is TRAFFIC",
        columns: ",receive_time,serial,type,subtype,,time_generated,src,dst,natsrc,natdst,rule,srcuser,dstuser,app,vsys,from,to,\
                  inbound_if,outbound_if,logset,,sessionid,repeatcnt,sport,dport,natsport,natdport,flags,proto,action,bytes,bytes_sent,\
                  bytes_received,packets,start,elapsed,category,,seqno,actionflags,srcloc,dstloc,,pkts_sent,pkts_received,\
                  session_end_reason,dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,device_name,\
                  action_source,src_uuid,dst_uuid,tunnelid,monitortag,parent_session_id,parent_start_time,tunnel,assoc_id,chunks,\
                  chunks_sent,chunks_received,rule_uuid,http2_connection,link_change_count,policy_id,link_switches,sdwan_cluster,\
                  sdwan_device_type,sdwan_cluster_type,sdwan_site,dynusergroup_name,xff_ip,src_category,src_profile,src_model,\
                  src_vendor,src_osfamily,src_osversion,src_host,src_mac,dst_category,dst_profile,dst_model,dst_vendor,dst_osfamily,\
                  dst_osversion,dst_host,dst_mac,container_id,pod_namespace,pod_name,src_edl,dst_edl,hostid,user_device_serial,src_dag,\
                  dst_dag,session_owner,high_res_timestamp,nssai_sst,nssai_sd,subcategory_of_app,category_of_app,technology_of_app,\
                  risk_of_app,characteristic_of_app,container_of_app,tunneled_app,is_saas_of_app,sanctioned_state_of_app,offloaded",
    },
    Layout {
        kind: b"THREAT",
        marker: ",THREAT,",
        why: "a comma-separated PAN-OS line whose type is THREAT",
        columns: ",receive_time,serial,type,subtype,,time_generated,src,dst,natsrc,natdst,rule,srcuser,dstuser,app,vsys,from,to,\
                  inbound_if,outbound_if,logset,,sessionid,repeatcnt,sport,dport,natsport,natdport,flags,proto,action,misc,threatid,\
                  category,severity,direction,seqno,actionflags,srcloc,dstloc,,contenttype,pcap_id,filedigest,cloud,url_idx,user_agent,\
                  filetype,xff,referer,sender,subject,recipient,reportid,dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,\
                  dg_hier_level_4,vsys_name,device_name,,src_uuid,dst_uuid,http_method,tunnelid,monitortag,parent_session_id,\
                  parent_start_time,tunnel,thr_category,contentver,,assoc_id,ppid,http_headers,url_category_list,rule_uuid,\
                  http2_connection,dynusergroup_name,xff_ip,src_category,src_profile,src_model,src_vendor,src_osfamily,src_osversion,\
                  src_host,src_mac,dst_category,dst_profile,dst_model,dst_vendor,dst_osfamily,dst_osversion,dst_host,dst_mac,\
                  container_id,pod_namespace,pod_name,src_edl,dst_edl,hostid,user_device_serial,domain_edl,src_dag,dst_dag,partial_hash,\
                  high_res_timestamp,reason,justification,nssai_sst,subcategory_of_app,category_of_app,technology_of_app,risk_of_app,\
                  characteristic_of_app,container_of_app,tunneled_app,is_saas_of_app,sanctioned_state_of_app",
    },
    Layout {
        kind: b"SYSTEM",
        marker: ",SYSTEM,",
        why: "a comma-separated PAN-OS line whose type is SYSTEM",
        columns: ",receive_time,serial,type,subtype,,time_generated,vsys,eventid,object,,,module,severity,opaque,seqno,actionflags,\
                  dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,device_name,,,high_res_timestamp",
    },
    Layout {
        kind: b"CONFIG",
        marker: ",CONFIG,",
        why: "a comma-separated PAN-OS line whose type is CONFIG",
        columns: ",receive_time,serial,type,subtype,,time_generated,host,vsys,cmd,admin,client,result,path,before_change_detail,\
                  after_change_detail,seqno,actionflags,dg_hier_level_1,dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,\
                  device_name,dg_id,comment,,high_res_timestamp",
    },
    Layout {
        kind: b"GLOBALPROTECT",
        marker: ",GLOBALPROTECT,",
        why: "a comma-separated PAN-OS line whose type is GLOBALPROTECT",
        columns: ",receive_time,serial,type,subtype,,time_generated,vsys,eventid,stage,auth_method,tunnel_type,srcuser,srcregion,\
                  machinename,public_ip,public_ipv6,private_ip,private_ipv6,hostid,serialnumber,client_ver,client_os,client_os_ver,\
                  repeatcnt,reason,error,opaque,status,location,login_duration,connect_method,error_code,portal,seqno,actionflags,\
                  high_res_timestamp,selection_type,response_time,priority,attempted_gateways,gateway,dg_hier_level_1,\
                  dg_hier_level_2,dg_hier_level_3,dg_hier_level_4,vsys_name,device_name,vsys_id",
    },
];

/// Columns before the type decides the layout.
const HEAD_COLUMNS: usize = 7;

/// The wanted columns with their slots, ascending.
struct Columns(Vec<(usize, SlotId)>);

impl Columns {
    fn new(columns: &str, wanted: &Wanted) -> Self {
        let slot = |name: &str| wanted.slot(name).filter(|_| !name.is_empty());
        Self(columns.split(',').enumerate().filter_map(|(column, name)| Some((column, slot(name)?))).collect())
    }

    /// Columns up to the last wanted one.
    fn count(&self) -> usize {
        self.0.last().map_or(0, |(last, _)| last + 1)
    }
}

struct Message {
    layouts: Vec<Columns>,
    head: Columns,
    /// Where the columns of the current line end; kept for its memory.
    ends: Vec<u32>,
}

impl MessageDecoder for Message {
    fn message(&mut self, message: Span, row: &mut Row<'_>) -> Result<(), Flaw> {
        let Self { layouts, head, ends } = self;
        let bytes = row.bytes();
        let mut columns = &*head;
        let mut flaw = None;
        let is_open = column_ends(bytes, message, ends, |ends| {
            let Some([.., from, to]) = ends.get(..TYPE_COLUMN + 1) else { return HEAD_COLUMNS };
            let kind = &bytes[*from as usize + 1..*to as usize];
            match LAYOUTS.iter().zip(&*layouts).find(|(layout, _)| layout.kind == kind) {
                Some((_, found)) => (columns, flaw) = (found, None),
                None => flaw = Some(Flaw::Truncated),
            }
            columns.count().max(HEAD_COLUMNS)
        });
        for (column, slot) in &columns.0 {
            let from = column.checked_sub(1).map_or(Some(message.start), |before| Some(ends.get(before)? + 1));
            let Some(from) = from else { break };
            let to = ends.get(*column).copied().unwrap_or(message.end);
            set(row, *slot, from as usize, to as usize);
        }
        match flaw {
            _ if ends.len() + 1 < HEAD_COLUMNS => Err(Flaw::Malformed),
            Some(flaw) => Err(flaw),
            None if is_open => Err(Flaw::Truncated),
            None => Ok(()),
        }
    }
}

/// The column that says which layout a line has.
const TYPE_COLUMN: usize = 3;

/// Fills `ends` with the offsets of the commas outside of quotes, 32 bytes at a time, until there are as many as
/// `enough` says, which is asked once when the type is known, or before if the line ends there. Returns whether
/// the line ends inside of quotes.
#[inline]
fn column_ends(bytes: &[u8], line: Span, ends: &mut Vec<u32>, mut enough: impl FnMut(&[u32]) -> usize) -> bool {
    ends.clear();
    let (mut at, end) = (line.start as usize, line.end as usize);
    let mut carry = 0;
    let mut needed = None;
    while at < end {
        let mut tail = [0; 32];
        let block = bytes.get(at..).and_then(|rest| rest.first_chunk()).unwrap_or_else(|| {
            // Chunks have padding; a buffer without is shorter than a block here.
            tail[..end - at].copy_from_slice(&bytes[at..end]);
            &tail
        });
        let valid = u32::MAX >> 32usize.saturating_sub(end - at).min(31);
        let quotes = scan::equal(block, b'"') & valid;
        let mut commas = scan::equal(block, b',') & valid;
        if quotes | carry != 0 {
            let quoted = scan::inside(quotes) ^ carry;
            commas &= !quoted;
            carry = ((quoted as i32) >> 31) as u32;
        }
        while commas != 0 {
            ends.push(at as u32 + commas.trailing_zeros());
            commas &= commas - 1;
        }
        if needed.is_none() && ends.len() > TYPE_COLUMN {
            needed = Some(enough(ends));
        }
        if needed.is_some_and(|needed| ends.len() >= needed) {
            return false;
        }
        at += 32;
    }
    carry != 0
}

/// An empty column is a missing field; quotes around a column go, `""` inside becomes one.
#[inline]
fn set(row: &mut Row<'_>, slot: SlotId, from: usize, to: usize) {
    let text = &row.bytes()[from..to];
    match text {
        [] => {}
        [b'"', inner @ .., b'"'] if memchr::memchr(b'"', inner).is_some() => row.set_written(slot, Kind::Text, |out| {
            let mut previous = 0;
            for byte in inner {
                if *byte != b'"' || previous != b'"' {
                    out.push(*byte);
                    previous = *byte;
                } else {
                    previous = 0;
                }
            }
        }),
        [b'"', b'"'] => {}
        [b'"', .., b'"'] => row.set_text(slot, Span::new(from + 1, to - 1)),
        _ => row.set_text(slot, Span::new(from, to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, a byte at a time.
    fn plain_ends(bytes: &[u8], line: Span) -> (Vec<u32>, bool) {
        let (mut ends, mut quoted) = (Vec::new(), false);
        for at in line.start..line.end {
            match bytes[at as usize] {
                b'"' => quoted = !quoted,
                b',' if !quoted => ends.push(at),
                _ => {}
            }
        }
        (ends, quoted)
    }

    #[test]
    fn columns_end_where_they_do_a_byte_at_a_time() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 16
        };
        for round in 0..2_000 {
            let alphabet: &[u8] = if round % 2 == 0 { b"a,b\"c,,d" } else { b"abcdefgh,ijklmnop,\"" };
            let bytes: Vec<u8> = (0..random() % 200).map(|_| alphabet[random() as usize % alphabet.len()]).collect();
            let start = random() as usize % (bytes.len() + 1);
            let line = Span::new(start, start + random() as usize % (bytes.len() - start + 1));
            // With padding, as in a chunk, and without.
            for padding in [64, 0] {
                let bytes = [bytes.clone(), vec![b'"'; padding]].concat();
                let mut found = Vec::new();
                let is_open = column_ends(&bytes, line, &mut found, |_| usize::MAX);
                assert_eq!((found, is_open), plain_ends(&bytes, line), "{:?} of {:?}", line, String::from_utf8_lossy(&bytes));
            }
        }
    }

    #[test]
    fn the_search_ends_with_the_last_wanted_column() {
        let bytes = [b"a,b,c,d,e".as_slice(), &b",x".repeat(200)].concat();
        let mut ends = Vec::new();
        let is_open = column_ends(&bytes, Span::new(0, bytes.len()), &mut ends, |ends| {
            assert!(ends.len() > TYPE_COLUMN);
            40
        });
        assert!(!is_open && (40..40 + 32).contains(&ends.len()), "{}", ends.len());
    }
}
