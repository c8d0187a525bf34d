"""The page that `parrotscope explore` serves. It lies apart: streamlit puts its folder before all other modules."""
