//! What `transport.select` is asked: which encoding, layers or bitrate a viewer shall get.

use serde::Deserialize;

use super::RpcError;
use crate::model::{Bounds, Selection, Target, Traversal};

/// Its parameters. All but the transport may be left out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Choice {
    pub(super) transport: u64,
    encoding: Option<String>,
    spatial_layer: Option<u8>,
    temporal_layer: Option<u8>,
    max_width: Option<u64>,
    max_height: Option<u64>,
    max_spatial_layer: Option<u8>,
    max_temporal_layer: Option<u8>,
    target_bitrate_bps: Option<u64>,
    traversal: Option<Traversal>,
    strict: Option<bool>,
    smooth: Option<bool>,
}

impl Choice {
    /// What it comes to.
    ///
    /// # Errors
    /// When it asks for things that exclude each other.
    pub(super) fn selection(self) -> Result<Selection, RpcError> {
        let by_hand = self.spatial_layer.is_some() || self.temporal_layer.is_some();
        let sized = self.max_width.is_some() || self.max_height.is_some();
        let refuse = |name, text| Err(RpcError::invalid_params(name, text));
        if self.encoding.is_some() && sized {
            return refuse("encoding", "name an encoding or bounds, not both");
        }
        let how = self.traversal.is_some() || self.strict.is_some() || self.smooth.is_some();
        match self.target_bitrate_bps {
            None if how => {
                return refuse(
                    "target_bitrate_bps",
                    "traversal, strict and smooth say how to keep to a bitrate: name it",
                );
            }
            Some(_) if self.encoding.is_some() || by_hand => {
                return refuse(
                    "target_bitrate_bps",
                    "name a bitrate, or an encoding and layers, not both",
                );
            }
            _ => {}
        }
        let target = self.target_bitrate_bps.map(|bitrate_bps| Target {
            traversal: self.traversal.unwrap_or_default(),
            strict: self.strict.unwrap_or(false),
            smooth: self.smooth.unwrap_or(true),
            ..Target::new(bitrate_bps)
        });
        Ok(Selection {
            encoding: self.encoding,
            spatial_layer: self.spatial_layer,
            temporal_layer: self.temporal_layer,
            within: Bounds {
                max_width: self.max_width,
                max_height: self.max_height,
                max_spatial_layer: self.max_spatial_layer,
                max_temporal_layer: self.max_temporal_layer,
            },
            target,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn selection(fields: Value) -> Result<Selection, String> {
        let mut params = json!({ "transport": 1 });
        let given = fields.as_object().cloned().unwrap_or_default();
        params.as_object_mut().expect("it is one").extend(given);
        let choice: Choice = serde_json::from_value(params).map_err(|error| error.to_string())?;
        choice.selection().map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        for fields in [
            json!({ "encoding": "f", "max_width": 640 }),
            json!({ "encoding": "f", "target_bitrate_bps": 1 }),
            json!({ "temporal_layer": 0, "target_bitrate_bps": 1 }),
            json!({ "strict": true }),
            json!({ "traversal": "sideways", "target_bitrate_bps": 1 }),
        ] {
            assert!(selection(fields.clone()).is_err(), "{fields}");
        }
        assert_eq!(selection(json!({})), Ok(Selection::default()));
        let layers = selection(json!({ "spatial_layer": 1, "temporal_layer": 0 }));
        assert_eq!(layers, Ok(Selection::layers(Some(1), Some(0))));
        let target = selection(json!({ "target_bitrate_bps": 5, "strict": true }));
        let expected = Target {
            strict: true,
            ..Target::new(5)
        };
        assert_eq!(target, Ok(Selection::target(expected)));
    }
}
