"""Names that other packages import from `pipeline.report.figures`."""

from .agreement import score_agreement as score_agreement
from .best_block import best_block_bars as best_block_bars
from .best_block import best_block_violins as best_block_violins
from .best_block import distributions as distributions
from .best_block import feve_by_tuning as feve_by_tuning
from .curves import learning_curves as learning_curves
from .draw import FIGURES as FIGURES
from .draw import Tables as Tables
from .draw import draw_figures as draw_figures
from .draw import wanted_figures as wanted_figures
from .maps import centres as centres
from .maps import centres_over_cortex as centres_over_cortex
from .maps import spatial_maps as spatial_maps
from .neurons import feve_against_fev as feve_against_fev
from .neurons import scatter as scatter
from .per_block import feve_per_block as feve_per_block
from .per_block import models_per_block as models_per_block
from .per_block import tuned_per_block as tuned_per_block
from .resolution import feve_by_resolution as feve_by_resolution
from .style import COLOURS as COLOURS
from .style import save_figure as save_figure
