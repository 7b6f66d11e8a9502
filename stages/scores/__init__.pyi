"""Names that others import from `stages.scores`."""

from .correlations import cc_norm as cc_norm
from .correlations import single_trial_correlation as single_trial_correlation
from .correlations import test_correlation as test_correlation
from .r2_er import Explained as Explained
from .r2_er import r2_er as r2_er
from .score import correlation as correlation
from .score import mean_responses as mean_responses
from .score import mean_score as mean_score
from .score import score as score
from .score import variance_explained as variance_explained
