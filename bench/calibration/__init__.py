"""Problems with known mutual information, and what the estimators say about them."""
