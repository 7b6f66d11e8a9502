"""The names of `cache` for people and for other packages."""
# ruff: noqa: I001

# Reading.
from .feature_cache import open_cache as open_cache
from .feature_cache import has_hashes as has_hashes
from .feature_cache import FeatureCache as FeatureCache
from .block import Block as Block
from .info import cache_info as cache_info

# Writing.
from .write.begin import write_cache as write_cache
from .write.writer import CacheWriter as CacheWriter
from .write.shards import ShardWriter as ShardWriter
from .write.shards import ShardTokens as ShardTokens

from .write.grow import recover_grown as recover_grown
from .images import HashedImages as HashedImages
from .images import images_of as images_of
from .format.images import image_sha256 as image_sha256

# Checking, mending and sharing.
from .integrity.verify import verify as verify
from .integrity.checkup import Checkup as Checkup
from .integrity.repair import prepare_repair as prepare_repair
from .format.faults import Fault as Fault
from .share.copy_plan import plan_copy as plan_copy
from .share.pull import pull as pull
from .share.pull import recover_copy as recover_copy
from .share.pack import pack as pack
from .share.push import push as push

# Shapes and sizes. From here on nothing loads zarr.
from .format.layout import TokenKind as TokenKind
from .format.layout import Places as Places
from .format.layout import BlockShape as BlockShape
from .format.layout import TokenShape as TokenShape
from .format.layout import Layout as Layout
from .format.layout import plan_layout as plan_layout
from .format.layout import resolve_block as resolve_block
from .format.layout import SHARD_BYTES as SHARD_BYTES

# Identity.
from .format.identity import canonical_json as canonical_json
from .format.identity import content_key as content_key
from .format.identity import key_of as key_of
from .format.identity import flatten as flatten
from .format.identity import differences as differences

# Paths, URLs and files.
from .stores.location import PACKED as PACKED
from .stores.address import is_url as is_url
from .stores.address import public_name as public_name
from .stores.address import public_text as public_text
from .stores.address import join as join
from .write.atomic import atomic_write as atomic_write
from .write.atomic import replaced as replaced
from .write.atomic import discard_unplaced as discard_unplaced
from .write.atomic import make_folder as make_folder
from .write.atomic import place_file as place_file
from .write.atomic import place_folder as place_folder
from .write.space import disk_of as disk_of
from .write.space import free_space as free_space
from .write.space import naming as naming
from .write.space import require_space as require_space
from .write.temporaries import beside as beside
from .write.lock import folder_lock as folder_lock

# Arguments of callers.
from .arguments import as_array as as_array
from .arguments import whole_number as whole_number
from .arguments import whole_numbers as whole_numbers

# Refusals.
from .errors import CacheError as CacheError
from .errors import UserError as UserError
